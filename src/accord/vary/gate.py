"""Which queries the rules look at at all, and the reasons they give for a skip."""

import re
import unicodedata
from functools import lru_cache

from accord.vary.outcome import Skip

LONGEST = 2000
"""Characters. The rules and the small parser are for queries; beyond this a text is a document."""

REASONS = {
    "empty query": "nothing but white space",
    "longer than 2,000 characters": "a document, not a query",
    "control characters": "bytes that no keyboard types",
    "no English words": "no word in Latin letters, or most letters are of another script",
    "no how-to frame": "neither how to X nor how do I X opens a clause",
    "how-to frame joined with another question": "one frame cannot serve both",
    "how-to frames with different subjects": "how do I and how do we in one query",
    "no other how-to frame fits": "the frames that are left would read badly",
    "no question frame": "no lead of the table of frames, or no other one fits",
    "yes/no question": "reworded only with yes_no: true",
    "no question in the first person": "no I and no we, or not in a question",
    "both I and we": "one of them would change sides",
    "unclear whether I is a pronoun": "Type I, Schedule I",
    "speaks of what one person or one group has": "my wife, my age, together",
    "states a fact in the first person": "the fact would be another one",
    "describes the asker": "am I a veteran, as a student",
    "agreement is not safe": "a form of be stands away from its pronoun",
    "no noun phrase whose number is safe to change": "the guards of number.py",
    "no article that is safe to change": "the guards of number.py",
    "no noun phrase whose number or article is safe to change": "both of these",
    "not a question": "a mark would make a question of a statement or a title",
    "no other capitals fit": "nothing but names, code and numbers, or as wanted already",
    "no word that can take a typo": "short words, names, numbers, negations and quotes only",
    "no request that can be made polite": "no direct question and no imperative",
}
"""Every reason for which a rule skips a query, and what it means."""

_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(r"[A-Za-z]{2,}|\bI\b")


@lru_cache(maxsize=2048)
def unusable(query: str) -> Skip | None:
    """Why no rule should touch the query, or None."""
    if not query or query.isspace():
        return Skip("empty query")
    if len(query) > LONGEST:
        return Skip("longer than 2,000 characters")
    if not query.isprintable() and any(_is_control(character) for character in query):
        return Skip("control characters")
    if not _WORD.search(query) or not (query.isascii() or _is_latin(query)):
        return Skip("no English words")
    return None


def _is_latin(query: str) -> bool:
    """Whether at least half of the letters are Latin."""
    return 2 * len(_LATIN.findall(query)) >= sum(character.isalpha() for character in query)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\r\t"

"""A token of a query read by itself: its marks, its number, its person.

These are the bricks of `canonical`. Nothing here looks at the words around a token, so that all
wordings of a query are read alike.
"""

import unicodedata
from functools import lru_cache
from typing import NamedTuple

from accord.vary.plurals import pairs, singular, words

_LONGEST = 40  # characters of a token worth keeping in the cache

_VERBATIM = {"`": "`", "<": ">", "[": "]", "{": "}"}
_QUOTES = "\"'\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb"
_LEFT = _QUOTES + "([{\u00bf\u00a1\u2026,;"
_RIGHT = _QUOTES + ")]}?!.,;:\u2026\uff1f\uff01\u3002\uff0c\u3001\uff1b\uff1a\u061f\u060c\u06d4"
_SENTENCE = frozenset("?!.\u2026\uff1f\uff01\u3002\u061f\u06d4")
_CLAUSE = frozenset(",;:\uff0c\uff1b\uff1a\u060c")
_BULLETS = frozenset({"-", "--", "\u2013", "\u2014", "\u2022", "\u00b7"})
_SHORTENED = words("e.g i.e vs etc mr mrs ms dr st no nr approx incl ver vol dept u.s")
_LEVELLED = {
    **pairs(
        "we:i our:my me:us ours:mine ourselves:myself we're:i'm we've:i've we'll:i'll we'd:i'd"
    ),
    **pairs("does:do has:have these:this those:that u.s:usa u.s.a:usa"),
    **pairs("doesn't:don't hasn't:haven't aren't:isn't weren't:wasn't"),
    **{f"{word}'s": f"{word} is" for word in words("what who where when how why which")},
}
_NOT_POSSESSIVE = words("that's there's here's it's he's she's let's one's")


class Word(NamedTuple):
    """A token as its word (two for what's), and whether a sentence (.) or a clause (,) ends."""

    text: str
    stop: str


def read(token: str) -> Word:
    """The word of a lower-case token: `(invoices),` -> `invoice` and a comma.

    Code, placeholders and addresses stay as they are, and so does what is inside a word: `c++`,
    `exit()`, `10.5`, `tcp/ip`. A token of marks alone has no word.
    """
    return _cached(token) if len(token) <= _LONGEST else _read(token)


@lru_cache(maxsize=65536)
def _cached(token: str) -> Word:
    return _read(token)


def _read(token: str) -> Word:
    if len(token) > 1 and _VERBATIM.get(token[0]) == token[-1]:
        return Word(token, "")
    if token in _BULLETS:
        return Word("", ",")
    core = token.lstrip(_LEFT).rstrip(_RIGHT)
    tail = token[token.rfind(core) + len(core) :] if core else token
    if ")" in tail and core.count("(") > core.count(")"):
        core += ")"  # the bracket of `exit()` belongs to the word
    return Word(_reduced(core), _stop(core, tail))


def _stop(core: str, tail: str) -> str:
    if not _SENTENCE.isdisjoint(tail):
        return "" if tail == "." and core in _SHORTENED else "."
    return "" if _CLAUSE.isdisjoint(tail) else ","


def _reduced(core: str) -> str:
    """A bare word in the singular and the first person singular; addresses as they are."""
    if len(core) > _LONGEST or "://" in core or core.startswith("www."):
        return core
    if not core.isascii():
        core = unicodedata.normalize("NFC", core).replace("\u2019", "'").replace("\u2018", "'")
    core = core.removesuffix("(s)").removesuffix("(es)")
    if core in _LEVELLED:
        return _LEVELLED[core]
    if core.endswith("'s") and core not in _NOT_POSSESSIVE and core[:-2].isalpha():
        core = core[:-2]
    return singular(core)

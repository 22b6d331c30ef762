"""I <-> we in a question (part of HTD; paper, section 3.1), with all that must agree.

A query is changed as a whole or not at all. A sentence in the first person must ask ("can I",
"am I able to"); a statement of fact about the asker would become another fact, so it is skipped.
"""

import re

from accord.vary.guards import Spans, words
from accord.vary.outcome import Skip

_TO_WE = {"i": "we", "my": "our", "me": "us", "mine": "ours", "myself": "ourselves"}
_TO_I = {plural: singular for singular, plural in _TO_WE.items()}
_SHORT = {"m": "re", "re": "m"}  # I'm <-> we're; 've, 'd and 'll stay

_PERSON = re.compile(
    r"(?<![\w/&@#.\-'\u2019])(?P<word>I|we|my|our|me|us|mine|ours|myself|ourselves)"
    r"(?P<short>['\u2019](?:m|re|ve|d|ll)\b)?(?![\w/&@\-]|['\u2019]\w|\.\w)",
    re.I,
)
_AUX = "do|can|could|should|would|may|might|must|shall|will|am|are|was|were|have|had|cannot"
# No "did I": what one did in the past is a fact about that one.
_FRAME = re.compile(
    rf"(?<![\w'\u2019])(?:{_AUX}|(?:do|ca|could|should|would|wo)n['\u2019]t)\s+(?:i|we)\b", re.I
)
_SENTENCE = re.compile(r"[^.?!\n]+(?:[.?!](?!\s|$)[^.?!\n]*)*[.?!]*\s*|[.?!\n]+\s*")
_LEAD = re.compile(r"\W*(?:(?:and|but|so|also)\s+)?(?:if|when|while|after|before|once)\b", re.I)
_ASIDE = re.compile(  # a statement that hangs on the question
    r"(?:[,;:(]|\s[-\u2013\u2014])\s*(?:and|but|so|as|which|where)?\s*(?:i|we|my|our)\b"
    r"|\b(?:because|since|but|so|as|although|though|and|whereas)\s+(?:i|we|my|our)\b",
    re.I,
)
_DESCRIBED = re.compile(  # "am I a veteran", "as a student": nobody says "are we a veteran"
    r"\b(?:am|are|was|were|be|become|being|i['\u2019]m|as)\s+(?:(?:i|we)\s+)?"
    r"(?:(?:not|still|considered|also)\s+)*(?:an?|the|my|our|one|alone|single|married)\b"
    r"|\b(?:i|we)\s+(?:am|was|are|were)\s+(?:not\s+)?(?:an?|the|born|married|single)\b",
    re.I,
)
_PERSONAL = re.compile(  # what belongs to one person, or is done alone or only together
    r"\b(?:husband|wife|spouse|partner|mom|mum|mother|dad|father|parents?|son|daughter|child|"
    r"brother|sister|boyfriend|girlfriend|fianc\w+|widow\w*|name|age|birth\w*|birthday|body|health|"
    r"ssn|disabilit\w+|disabled|married|marriage|divorced?|pregnan\w+|retire|retiree|death|die[ds]?|"
    r"social security number|all of us|both|together|each other|one another|between us|jointly|"
    r"everyone|anyone|alone|by myself|by ourselves|colleagues?|as a team|we all|of us)\b",
    re.I,
)
# What people do together, or as anybody would: "are we meeting", "why do we test".
_TOGETHER = re.compile(
    r"\bwhy\s+(?:do|don['\u2019]t|are|should)\s+we\b|\bare\s+we\s+(?:\w+\s+)?\w+ing\b", re.I
)
_ENUMERATED = words(
    "type phase class part level section schedule title war tier stage chapter volume form "
    "category grade group article appendix figure table plan option model step period factor "
    "world division act scene book case chart document elizabeth henry apollo nicholas"
)
_BEFORE_I = words(
    "do did can could should would may might must shall will am was have had if when while "
    "after before once that which what where how why who whom whether until unless and or but "
    "so than as because since don't didn't can't couldn't shouldn't wouldn't won't cannot "
    "though although"
)
_VERBS_OF_I = words(
    "have need am want wanted use used can could get got do did should must was had would like "
    "see bought made own owe took take chose choose signed received applied filed sent paid "
    "lost found"
)
_DISAGREE = re.compile(
    r"\b(?:if|wish|though)\s+(?:i|we)\s+were\b|\b(?:are|were|was|is)n['\u2019]t\s+(?:i|we)\b"
    r"|\b(?:i|we)\s+(?:are|were|was)n['\u2019]t\b|\bi\s+were\b|\bwe\s+was\b|\bare\s+i\b"
    r"|\bam\s+we\b|\b(?:am|are|was|were)\s+(?:i|we)['\u2019]|\b(?:i|we)\s+(?!am\b|was\b|are\b|were\b)\w+\s+(?:am|was|are|were)\b",
    re.I,
)
_BE = {"am": "are", "was": "were", "are": "am", "were": "was"}


def swap(query: str) -> str | Skip:
    """The query with I for we or we for I, or why it must stay."""
    found = _persons(query)
    if isinstance(found, Skip):
        return found
    if not found:
        return Skip("no question in the first person")
    to_we = found[0]["word"].lower() in _TO_WE
    if any((match["word"].lower() in _TO_WE) != to_we for match in found):
        return Skip("both I and we")
    if _PERSONAL.search(query) or (not to_we and _TOGETHER.search(query)):
        return Skip("speaks of what one person or one group has")
    if reason := _reason_against(query, found):
        return Skip(reason)
    return _replace(query, found, to_we)


def _persons(query: str) -> list[re.Match[str]] | Skip:
    """The pronouns of the first person outside quotes; the letter I as a number is none."""
    protected = Spans(query)
    found = []
    for match in _PERSON.finditer(query):
        word = match["word"]
        if protected.touch(*match.span()) or (word.isupper() and len(word) > 1):
            continue  # US, ME
        role = "pronoun" if word.lower() != "i" or match["short"] else _role_of_i(query, match)
        if role == "unclear":
            return Skip("unclear whether I is a pronoun")
        if role == "pronoun":
            found.append(match)
    return found


def _role_of_i(query: str, match: re.Match[str]) -> str:
    before = re.findall(r"[\w'\u2019]+(?=\s+$)", query[: match.start()][-40:])
    previous = before[0].replace("\u2019", "'") if before else ""
    follows = re.match(r"\s+([A-Za-z']+)", query[match.end() :])
    following = follows[1] if follows else ""
    if previous.lower() in _BEFORE_I:
        return "pronoun"
    if previous.lower() in _ENUMERATED or previous[:1].isupper() or previous[:1].isdigit():
        return "unclear" if following.lower() in _VERBS_OF_I else "number"
    return "pronoun" if following[:1].islower() and following not in {"and", "or"} else "unclear"


def _reason_against(query: str, found: list[re.Match[str]]) -> str:
    """Why a sentence that holds a pronoun of the first person cannot change, or ``""``."""
    for match in _SENTENCE.finditer(query):
        start, end = match.span()
        inside = [person for person in found if start <= person.start() < end]
        if not inside:
            continue
        frame = _first_frame(query, start, end, inside)
        if frame is None:
            return "states a fact in the first person"
        lead = any(person.start() < frame.start() for person in inside)
        if lead and not _LEAD.match(query[start : frame.start()]):
            return "states a fact in the first person"
        if _ASIDE.search(query[frame.end() : end]):
            return "states a fact in the first person"
        if _DESCRIBED.search(match[0]):
            return "describes the asker"
        if not _can_agree(match[0]):
            return "agreement is not safe"
    return ""


def _first_frame(
    query: str, start: int, end: int, inside: list[re.Match[str]]
) -> re.Match[str] | None:
    """The first inverted question ("can I") whose subject is one of the pronouns."""
    starts = {person.end("word") for person in inside}
    frames = _FRAME.finditer(query, start, end)
    return next((frame for frame in frames if frame.end() in starts), None)


def _can_agree(sentence: str) -> bool:
    """Whether every am/was (are/were) that goes with the pronoun stands next to it."""
    if _DISAGREE.search(sentence):
        return False
    return len(re.findall(r"\bam\b", sentence, re.I)) == len(
        re.findall(r"\bam\s+i\b|\bi\s+am\b", sentence, re.I)
    )


def _replace(query: str, found: list[re.Match[str]], to_we: bool) -> str:
    """Change the pronouns from the last to the first, and the form of `be` next to each."""
    table = _TO_WE if to_we else _TO_I
    for match in reversed(found):
        head, tail = query[: match.start()], query[match.end() :]
        word = match["word"]
        if word.lower() in {"i", "we"} and not match["short"]:
            head = re.sub(r"\b(am|was|are|were)(\s+)$", _be, head, flags=re.I)
            tail = re.sub(r"^(\s+)(am|was|are|were)\b", _be, tail, flags=re.I)
        query = head + _cased(table[word.lower()], word, head) + _short(match["short"]) + tail
    return query


def _be(match: re.Match[str]) -> str:
    return re.sub(r"\w+", lambda verb: _case_of(verb[0], _BE[verb[0].lower()]), match[0])


def _case_of(old: str, new: str) -> str:
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def _cased(new: str, old: str, head: str) -> str:
    """The pronoun in the capitals of its place: always I, We only at starts and in titles."""
    if new == "i":
        return "I"
    if old != "I":
        return _case_of(old, new)
    sentence = re.split(r"[.?!:]\s+|\n", head)[-1].split()
    title = not sentence or (len(sentence) > 1 and sentence[-1][:1].isupper())
    return "We" if title else new


def _short(ending: str | None) -> str:
    if not ending:
        return ""
    return ending[0] + _SHORT.get(ending[1:].lower(), ending[1:])

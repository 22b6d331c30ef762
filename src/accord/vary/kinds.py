"""What a question asks for (a time, a place, a reason, a yes or no), where that is clear."""

import re
from functools import lru_cache

_YEAR = r"(?:year|years|date|dates|day|days|time|times|month|months|hour|century|decade|season)"
_PLACE = (
    r"(?:place|places|city|cities|country|countries|state|states|county|town|towns|location|"
    r"locations|region|continent|area|part\s+of\s+the|venue|address|island|directory|folder|path)"
)
_PERSON = (
    r"(?:person|people|man|woman|actor|actors|actress|author|writer|artist|artists|singer|"
    r"musician|musicians|director|president|king|queen|scientist|player|composer|individual|"
    r"individuals|group|team|company|organi[sz]ation|band|name|names|countries|country)"
)
_WHICH = (
    r"(?:what|which)(?:\s+(?:is|are|was|were)\s+the(?:\s+names?\s+of\s+the)?|['\u2019]s\s+the)?"
    r"(?:\s+\w+)?\s+"
)
_MODAL = (
    r"(?:can|could|may|might|must|shall|should|will|would|do|does|did|is|are|was|were|has|have|"
    r"had|am|isn['\u2019]t|aren['\u2019]t|don['\u2019]t|doesn['\u2019]t|didn['\u2019]t|"
    r"can['\u2019]t|won['\u2019]t|wasn['\u2019]t|couldn['\u2019]t)"
)
_ME = r"(?:i|we|you|one|he|she|it|they|there|the|a|an|my|our|your|this|that|these|those|any|\w+)"

_HOW_MUCH = r"(?:number|amount|quantity|count|total|percentage|share|proportion|population|size)"
_PATTERNS = {
    "time": rf"\bwhen\b|\b{_WHICH}{_YEAR}\b|\b(?:in|on|at)\s+(?:what|which)\s+{_YEAR}\b"
    r"|\bhow\s+soon\b",
    "place": rf"\bwhere\b|\b{_WHICH}{_PLACE}\b|\b(?:in|at|to|from)\s+(?:what|which)\s+{_PLACE}\b",
    "person": rf"\bwho(?:m|se)?\b|\b{_WHICH}{_PERSON}\b|\bby\s+(?:what|which)\s+{_PERSON}\b",
    "reason": r"\bwhy\b|\bhow\s+come\b"
    r"|\b(?:what|which)\b[^?.]{0,30}\b(?:reasons?|causes?|caused|purpose|makes|made)\b"
    r"|\bfor\s+what\b|\breasons?\s+(?:for|why|behind)\b|\bwhat\s+is\b.{1,60}\bfor\b",
    "number": rf"\bhow\s+(?:many|much)\b|\b{_WHICH}{_HOW_MUCH}\b|\b(?:cost|price|fee|charge)s?\b"
    rf"|\b{_HOW_MUCH}\s+of\b|\b(?:at|to|by)\s+(?:what|which)\s+{_HOW_MUCH}\b",
    "extent": r"\bhow\s+(?:long|far|big|large|old|tall|high|deep|wide|fast|often|heavy)\b"
    r"|\b(?:length|duration|distance|size|age|height|depth|width|speed|frequency)\b"
    r"|\b(?:what|which)\s+(?:period|amount|percentage)\b",
    "procedure": r"\bhow\s+(?:to|do|does|can|could|should|would|might|must|did)\b"
    r"|\b(?:steps?|ways?|process|procedure|method|instructions)\s+(?:\w+\s+)?(?:to|for|of)\b|\bhow\b(?!\W+(?:many|much|long|far|old|often|big|large|tall))",
}  # fmt: skip
_KINDS = {kind: re.compile(pattern, re.I) for kind, pattern in _PATTERNS.items()}
_SENTENCE = re.compile(r"(?<=[.?!])\s+|\n+")
_OPEN = re.compile(r"\b(?:how|what|which|who|whom|whose|why)\b", re.I)
_WHAT = re.compile(r"\b(?:what|which)\b", re.I)
_YES_NO = re.compile(
    rf"(?:^|[.?!,;:]\s+)(?:(?:so|and|but|hi|hello|also|please|then|now)\b,?\s+)*{_MODAL}\s+{_ME}\b",
    re.I,
)
_WHETHER = re.compile(
    r"\b(?:know|tell\s+me|wonder|wondering|check|see|ask|sure)\s+(?:if|whether)\b|\bwhether\b"
    r"|\bis\s+it\s+(?:possible|true|ok|okay|allowed)\b",
    re.I,
)
_REQUEST = re.compile(
    r"\b(?:can|could|would|will)\s+(?:you|someone|anyone|somebody|anybody|i\s+get|i\s+have|i\s+know|"
    r"i\s+ask|i\s+see)\b"
    r"|\bdo(?:es)?\s+(?:you|anyone|someone)\s+(?:happen\s+to\s+)?know\b|\b(?:is|are)\s+there\b",
    re.I,
)
_INFORMATION = re.compile(
    r"\b(?:information|info|details|something|more|help|questions?)\s+"
    r"(?:about|on|regarding|concerning|with|related\s+to)\b|\b(?:tell|show|know|learn)\b[^?.]*\babout\b"
    r"|\bneed\s+(?:some\s+)?(?:help|info|information)\b",
    re.I,
)
# Kinds of which one is also asked for by the words of the other.
_NEAR = (
    {"number", "extent"},
    {"place", "person"},
    {"time", "extent"},
    {"reason", "procedure"},
    {"information", "procedure"},
)


@lru_cache(maxsize=8192)
def kinds(text: str) -> frozenset[str]:
    """What a question asks for, as far as its words make that clear; empty where they do not."""
    found = set[str]().union(*map(_asked, _SENTENCE.split(text)))
    if not found and _INFORMATION.search(text) and not _WHAT.search(text):
        return frozenset({"information"})
    return frozenset(found)


def _asked(sentence: str) -> set[str]:
    closed = _WHETHER.search(sentence)
    if not closed and not _REQUEST.search(sentence):
        closed = _YES_NO.search(sentence)
    # In "how many of them, may I ask" another question comes first.
    if closed and not _OPEN.search(sentence, 0, closed.start()):
        return {"yes or no"}  # "do I pay when I leave" asks for no time
    return {kind for kind, pattern in _KINDS.items() if pattern.search(sentence)}


def kinds_differ(query: str, candidate: str) -> str | None:
    """The kinds that two questions ask for, if both are clear and none is shared; symmetric."""
    ours, theirs = kinds(query), kinds(candidate)
    if not ours or not theirs or ours & theirs:
        return None
    if any(ours & near and theirs & near for near in _NEAR):
        return None
    return f"{_shown(ours)} / {_shown(theirs)}"


def _shown(found: frozenset[str]) -> str:
    return " or ".join(sorted(found))

"""Clauses of an English text with their polarity, and whether two answers deny each other."""

import re
from collections.abc import Iterable, Iterator, Set
from functools import cached_property, lru_cache
from itertools import islice
from typing import NamedTuple

from accord.evaluate.words import STOP_WORDS, listed

# Words that turn a clause around, and what is left of them without the negation ("" if nothing).
_NEGATIVE = {
    **dict.fromkeys(
        listed(
            "not no never none nobody nothing nowhere neither nor without unless prohibited "
            "prohibits prohibit forbidden forbids forbid banned disallowed denied unable"
        ),
        "",
    ),
    "impossible": "possible",
    "ineligible": "eligible",
    "invalid": "valid",
    "unavailable": "available",
    "illegal": "legal",
    "unlawful": "lawful",
    "unnecessary": "necessary",
    "unpaid": "pay",
    "unsafe": "safe",
    "incorrect": "correct",
    "inactive": "active",
    "incomplete": "complete",
    "uninsured": "insured",
    "unsupported": "supported",
    "unauthorised": "authorised",
    "unauthorized": "authorized",
    "unlikely": "likely",
    "unchanged": "change",
    "unlimited": "limit",
    "unsuitable": "suitable",
}
# Words that may stand for a negation of the other text: with one of these a text is not said to be
# free of negation, though its clauses keep their polarity.
_HIDDEN = frozenset(
    listed(
        "free only except exempt excluded excludes refused refuses declined rejected lack lacks "
        "fail fails failed avoid stop prevent instead rather too hardly rarely barely expired "
        "missing absent closed other minors"
    )
)
_FREE = re.compile(r"\b(?:at|for) no (?:extra |additional |further )?(?:cost|charge)\b")
_IDIOM = re.compile(
    r"\bnot (?:only|just|merely|simply)\b|\b(?:whether )?or not\b|\bif not\b"
    r"|\b(?:not|no) (?:later|longer|more|less|fewer|sooner|earlier) than\b|\bnot exceed"
    r"|\bno (?:doubt|matter|problem)\b|\b(?:do )?not (?:hesitate|worry|forget)(?: to)?\b"
    r"|\bnot (?:to mention|least)\b|\bno\. ?(?=\d)|\bwhy not\b|\bnothing but\b"
    r"|\bwithout (?:delay|hesitation|fail|exception|limit)\b"
)
# Without one of these no idiom is there: to look for them is faster.
_IDIOM_WORDS = frozenset(
    listed(
        "only just merely simply than exceed exceeding doubt matter problem hesitate worry forget "
        "mention least why nothing delay hesitation fail exception limit"
    )
)
_IDIOM_PARTS = ("or not", "if not", "no.")
_TURNED = frozenset([*_NEGATIVE, "non"])
_OPENING = re.compile(r"\W*(?:no|nope|nah)(?=[,.;:!*]|\s+[-\u2013\u2014])\W*(?=\w)")
_TOKEN = re.compile(r"\w(?:[\w.:'/-]*\w)?|[^\w\s]")


# What a token does in a clause; integers, because members of an enumeration are slow to look up.
_ANY_WORD, _END, _COMMA, _CONDITION, _NEGATION, _NOR, _UNTIL = range(7)
_JOINTS = listed("but however although though while whereas because since")
_ROLES = {
    **dict.fromkeys([*".!?;:-\u2013\u2014", *_JOINTS], _END),
    **dict.fromkeys(["if", "when", "whether"], _CONDITION),
    ",": _COMMA,
    "nor": _NOR,
    "until": _UNTIL,
}
# Share of the content words of the smaller clause from which two clauses are about the same; of
# conditions all, since "if you do not know" and "if you forgot" are one.
_SHARED, _SHARED_CONDITION = 0.5, 1.0
_MOST = 500  # clauses of a text: each is compared with all of the other text
_SHORT = 3  # words before a comma that make no clause: "drinks, snacks and pets"
_ENDING = re.compile(r"(?:ations?|ions?|ments?|able|ing|ed|es|s|e)$")
_IRREGULAR = {"paid": "pay", "sent": "send", "shipping": "ship", "shipped": "ship", "gave": "give"}


class Clause(NamedTuple):
    """A clause: its content words, stemmed, whether they are denied, whether it is a condition."""

    content: frozenset[str]
    denied: bool
    condition: bool


class Clauses:
    """The clauses of a text in `plain` form; they are read only where they are wanted."""

    def __init__(self, text: str, known: Set[str]) -> None:
        self.negative = not _TURNED.isdisjoint(known)
        self.suspect = self.negative or not _HIDDEN.isdisjoint(known)
        self._text = text
        self._known = known

    @cached_property
    def all(self) -> list[Clause]:
        """The first clauses, in order."""
        text = _positive(self._text, self._known) if self.negative else self._text
        for end in ("\n", "--", ".."):
            text = text.replace(end, " ; ")
        return list(islice(_cut(_TOKEN.findall(text)), _MOST))

    @cached_property
    def denied(self) -> list[Clause]:
        """What the text denies, conditions left out."""
        return [c for c in self.all if c.denied and not c.condition] if self.negative else []


def _positive(text: str, known: Set[str]) -> str:
    """A text without a "No" at its opening and without idioms that deny nothing."""
    opening = _OPENING.match(text)
    text = text[opening.end() if opening else 0 :].replace("non-", "not ")
    if "cost" in known or "charge" in known:
        text = _FREE.sub("free", text)
    if not _IDIOM_WORDS.isdisjoint(known) or any(part in text for part in _IDIOM_PARTS):
        text = _IDIOM.sub(" ", text)
    return text


def _cut(tokens: Iterable[str]) -> Iterator[Clause]:
    """Clauses of a text, each with its polarity: two negations are none ("not impossible")."""
    content: set[str] = set()
    denied, condition, words = False, False, 0
    for role, stem in map(_role, [*tokens, "."]):
        if role == _ANY_WORD:
            words += 1
            if stem:
                content.add(stem)
            continue
        if role in (_END, _CONDITION) or (role == _COMMA and words >= _SHORT):
            if words:
                yield Clause(frozenset(content), denied, condition)
            content, denied, condition, words = set(), False, role == _CONDITION, 0
            continue
        words += role != _COMMA
        if stem:  # "impossible" is not, and possible
            content.add(stem)
        if role == _NEGATION:
            denied = not denied
        elif role == _NOR:
            denied = True
        elif role == _UNTIL:
            denied = False  # "not until" says when, and denies nothing


@lru_cache(2**16)
def _role(token: str) -> tuple[int, str]:
    """What a token does in a clause, and the stem of its content, "" without any."""
    if token in _ROLES:
        return _ROLES[token], ""
    word = _NEGATIVE.get(token, token)
    stem = _stem(word) if word and word not in STOP_WORDS else ""
    return (_NEGATION if token in _NEGATIVE else _ANY_WORD), stem


def _stem(word: str) -> str:
    """The beginning of a word: "registration" and "registered" shall be one."""
    word = _IRREGULAR.get(word, word)
    short = _ENDING.sub("", word)
    return (short if len(short) > 2 else word)[:6]


def deny(a: Clauses, b: Clauses) -> bool:
    """Whether two texts deny each other; symmetric.

    Either one denies a clause that the other affirms: a clause shares at least half of the content
    words of the smaller of the two, and no clause that the other denies too is nearer. Or one
    denies something and the other holds no negation at all. Conditions ("if you do not") are
    compared with conditions alone.
    """
    if not (a.negative or b.negative):
        return False
    if (not b.suspect and a.denied) or (not a.suspect and b.denied):
        return True
    return _affirmed(a, b) or _affirmed(b, a)


def _affirmed(a: Clauses, b: Clauses) -> bool:
    """Whether b affirms what a denies."""
    return any(_nearest_affirms(clause, b.all) for clause in a.all if clause.denied)


def _nearest_affirms(denied: Clause, clauses: Iterable[Clause]) -> bool:
    enough = _SHARED_CONDITION if denied.condition else _SHARED
    # The closest of the clauses that deny and of those that affirm: by the smaller, by both.
    smaller, both = [0.0, 0.0], [0.0, 0.0]
    for other in clauses:
        common = len(denied.content & other.content)
        if not common or other.condition != denied.condition:
            continue
        share = common / min(len(denied.content), len(other.content))
        if share >= enough:
            side = not other.denied
            smaller[side] = max(smaller[side], share)
            both[side] = max(both[side], common / len(denied.content | other.content))
    return smaller[True] >= smaller[False] and both[True] > both[False]

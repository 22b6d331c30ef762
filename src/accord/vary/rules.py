"""Rewording by regular expression: how to / how do I, and I / we (HTD; paper, section 3.1).

The rules know question frames, not grammar. What they do not recognise is skipped with its
reason: a wrong variation would teach a specialist the wrong thing.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from accord.records import Question
from accord.registry import register
from accord.vary.gate import unusable
from accord.vary.guards import Spans
from accord.vary.outcome import Rewording, Skip, changed, keyed_random
from accord.vary.persons import swap
from accord.vary.verbs import asks_for_procedure

_MODALS = "do|can|could|should|would|might|must|shall"
_HOW = re.compile(
    rf"\bhow(?P<gap>\s+)(?:(?P<to>to)|(?P<modal>{_MODALS})\s+(?P<subject>i|we|you|one))"
    r"(?=\s+[a-z])",
    re.I,
)
_START = re.compile(  # what may stand between the last stop and the frame
    r"\s*(?:(?:and|but|so|also|then|now|hi|hello|hey|ok|okay)\b,?\s*)?", re.I
)
_SUBORDINATE = re.compile(r"\s*(?:if|when|while|after|before|once|for|in|on|with|as)\b", re.I)
_EMBEDDING = re.compile(
    r"(?:\b(?:know|ask|wonder|learn|explain|understand|see|guide|tell me|e\.g\.|i\.e\.|like|"
    r"about|namely|example),?[\s:]*)$",
    re.I,
)
_MIXED = re.compile(  # a second question hung on the first: one frame cannot serve both
    r"\b(?:and|or|but|nor)\s+(?:also\s+|then\s+)?(?:what|where|when|which|who|whether|why|how|"
    r"can|could|do|does|should|will|would|is|are|not\s+to|to|if\s+so)\b",
    re.I,
)


class _Frame(NamedTuple):
    start: int
    end: int
    modal: str  # "to" for the infinitive
    subject: str  # "" for the infinitive
    words: list[str]


@register("variations", "how_to_do")
def how_to_do(questions: Sequence[Question], *, seed: int) -> Iterator[list[Rewording] | Skip]:
    """Interchange "how to X", "how do I X" and "how can I X", keeping the subject."""
    for question in questions:
        frames = unusable(question.query) or _how_frames(question.query)
        if isinstance(frames, Skip):
            yield frames
            continue
        choices = _other_frames(question.query, frames)
        draw = keyed_random(seed, question.id, "how_to_do")
        modal, subject = draw.choice(choices) if choices else ("", "")
        yield (
            [_reframe(question.query, frames, modal, subject)]
            if modal
            else Skip("no other how-to frame fits")
        )


@register("variations", "i_we")
def i_we(questions: Sequence[Question], *, seed: int) -> Iterator[list[Rewording] | Skip]:
    """Interchange I and we in questions ("can I" and "can we"), with all that agrees."""
    for question in questions:
        new = unusable(question.query) or swap(question.query)
        yield new if isinstance(new, Skip) else [changed("i_we", question.query, new)]


def _how_frames(query: str) -> list[_Frame] | Skip:
    """The frames that open a sentence or a clause, or why they may not change."""
    protected = Spans(query)
    frames, blocked = [], False
    for match in _HOW.finditer(query):
        if protected.touch(*match.span()):
            continue
        frame = _frame(query, match)
        if _opens_clause(query, match.start(), frame.modal) and _has_verb(query, frame):
            frames.append(frame)
        elif frame.subject:
            blocked = True
    if not frames:
        return Skip("no how-to frame")
    if blocked or any(_MIXED.search(_sentence_after(query, frame.end)) for frame in frames):
        return Skip("how-to frame joined with another question")
    if len({frame.subject.lower() for frame in frames if frame.subject}) > 1:
        return Skip("how-to frames with different subjects")
    return frames


def _frame(query: str, match: re.Match[str]) -> _Frame:
    modal = (match["modal"] or "to").lower()
    return _Frame(*match.span(), modal, match["subject"] or "", match[0].split())


def _opens_clause(query: str, start: int, modal: str) -> bool:
    before = re.split(r"[.?!:;\n]\s+|\s[-\u2013\u2014]\s", query[:start])
    clause = before[-1]
    if len(before) > 1 and _EMBEDDING.search(query[: start - len(clause)].rstrip(" ")):
        return False
    if _START.fullmatch(clause):
        return True
    lead, comma, rest = clause.rpartition(",")
    if not comma or not _START.fullmatch(rest) or _EMBEDDING.search(lead):
        return False
    return modal != "to" or bool(_SUBORDINATE.match(lead))


def _has_verb(query: str, frame: _Frame) -> bool:
    """Whether a bare verb that asks for a procedure follows the frame."""
    rest = query[frame.end : frame.end + 120]
    return asks_for_procedure(rest, subject=frame.subject, modal=frame.modal)


def _sentence_after(query: str, start: int) -> str:
    return re.split(r"[.?!;\n](?:\s|$)", query[start:], maxsplit=1)[0]


def _other_frames(query: str, frames: list[_Frame]) -> list[tuple[str, str]]:
    """The (modal, subject) pairs that read well here and that no frame of the query has yet."""
    has = {frame.modal for frame in frames}
    subjects = {frame.subject for frame in frames if frame.subject} or _subjects(query)
    be = any(re.match(r"\s+(?:\w+ly\s+)?be\b", query[frame.end :], re.I) for frame in frames)
    modals = [modal for modal in ("do", "can") if modal not in has and not (be and modal == "do")]
    if any(subject.lower() == "one" for subject in subjects):
        modals = [modal for modal in modals if modal != "do"]  # never "how do one"
    infinitive = [("to", "")] if "to" not in has else []
    return infinitive + [(modal, subject) for modal in modals for subject in sorted(subjects)]


def _subjects(query: str) -> set[str]:
    """Who asks "how to": as the pronouns of the query have it, else I or we."""
    used = set(re.findall(r"[a-z]+", Spans(query).outside(query).lower()))
    people = {
        "I": bool(used & {"i", "my", "me", "mine", "myself"}),
        "we": bool(used & {"we", "our", "us", "ours", "ourselves"}),
        "you": bool(used & {"your", "yours", "yourself"}),
    }
    found = {subject for subject, is_used in people.items() if is_used}
    if "one's" in query or len(found) > 1:
        return set()
    return found or {"I", "we"}


def _reframe(query: str, frames: list[_Frame], modal: str, subject: str) -> Rewording:
    result, at = "", 0
    for frame in frames:
        result += query[at : frame.start] + _like(frame.words, modal, subject)
        at = frame.end
        if frame.words[-1].islower() and modal != "to":  # How to Pay -> How do I pay
            result += query[at : at + 2].lower()
            at += 2
    return changed("how_to_do", query, result + query[at:])


def _like(old: list[str], modal: str, subject: str) -> str:
    """The new frame in the capitals of the old one: how to, How to, How To, HOW TO."""
    new = " ".join(part for part in (old[0], modal, subject) if part).split()
    if old[0].isupper() and old[1].isupper():
        return " ".join(new).upper()
    if old[1][0].isupper():
        return " ".join([new[0], *(word[:1].upper() + word[1:] for word in new[1:])])
    return " ".join(new)

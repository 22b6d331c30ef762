"""Rewording by regular expression: how to / how do I, and I / we (HTD; paper, section 3.1).

The rules know question frames, not grammar. What they do not recognise is skipped with its
reason: a wrong variation would teach a specialist the wrong thing.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from accord.records import Question
from accord.registry import register
from accord.vary.guards import Spans, words
from accord.vary.outcome import Rewording, Skip, keyed_random
from accord.vary.persons import swap

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
_NOT_A_VERB = words(
    "i we you one it they he she this that a an the my our your in on at for with from of to "
    "and or but if is are am was were does did s guide guides video videos article articles doc "
    "docs document documents documentation page pages manual section sections tutorial "
    "tutorials question questions have has had having being been"
)
_ADVERBS = words("also then now still just even not best properly correctly safely quickly easily")
# Verbs that ask about a state or an opinion: "how do I look", "how do you feel", "how would we be".
_STATES = words("look feel seem differ compare need want plan think like rate mean relate fare")
_ENDING_IN_ING = words("bring ping ring sing string spring sting swing cling wring")
_ENDING_IN_ED = words("need feed embed speed seed shed exceed proceed succeed weed breed bleed")


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
        frames = _how_frames(question.query)
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
        new = swap(question.query)
        yield new if isinstance(new, Skip) else [_changed(question.query, new)]


def _changed(old: str, new: str) -> Rewording:
    """The rewording with its span: from the first word that differs to the last."""
    start = _shared(old, new)
    end = _shared(old[start:][::-1], new[start:][::-1])
    while start and old[start - 1].isalnum():
        start -= 1
    while end and old[len(old) - end].isalnum():
        end -= 1
    return Rewording(new, "i_we", old[start : len(old) - end], new[start : len(new) - end])


def _shared(one: str, other: str) -> int:
    """How many characters two texts share at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


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
    following = re.findall(r"[^\s]+", query[frame.end : frame.end + 120])
    while following and following[0].lower() in _ADVERBS:
        following.pop(0)
    verb = following[0].strip("?!.,;:").lower() if following else ""
    if not re.fullmatch(r"[a-z]+(?:-[a-z]+)?", verb) or verb in _NOT_A_VERB | _STATES:
        return False
    if verb == "do" and (len(following) < 2 or following[1].lower() in {"i", "we", "you"}):
        return False
    if verb.endswith("ing") and verb not in _ENDING_IN_ING:
        return False
    if frame.subject.lower() == "you" and frame.modal not in {"do", "can"}:
        return False  # "how would you rate" asks for an opinion
    return not verb.endswith("ed") or verb in _ENDING_IN_ED


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
    if not found:
        return {"I", "we"}
    return found if len(found) == 1 and "one's" not in query else set()


def _reframe(query: str, frames: list[_Frame], modal: str, subject: str) -> Rewording:
    result, at = "", 0
    for frame in frames:
        result += query[at : frame.start] + _like(frame.words, modal, subject)
        at = frame.end
    first = frames[0]
    before = query[first.start : first.end]
    return Rewording(result + query[at:], "how_to_do", before, _like(first.words, modal, subject))


def _like(old: list[str], modal: str, subject: str) -> str:
    """The new frame in the capitals of the old one: how to, How to, How To, HOW TO."""
    new = " ".join(part for part in (old[0], modal, subject) if part).split()
    if old[0].isupper() and old[1].isupper():
        return " ".join(new).upper()
    if old[1][0].isupper():
        return " ".join([new[0], *(word[:1].upper() + word[1:] for word in new[1:])])
    return " ".join(new)

"""Another question frame around the same request (question_frame; paper, section 3.1).

A sentence is taken as opener, lead, rest and stop (`Hi, | how do I | reset it | ?`). Only the lead
and the stop change; the table of leads is `frames`. No parser is used: what the table does not
recognise is skipped.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

from accord.records import Question
from accord.registry import register
from accord.vary import frames, indirect
from accord.vary.clauses import Clause, clauses
from accord.vary.gate import unusable
from accord.vary.guards import Spans
from accord.vary.outcome import Rewording, Skip, changed, keyed_random
from accord.vary.sentence import Request, is_title, joined, request, sentences
from accord.vary.verbs import asks_for_procedure, has_steps

_LEADS = {family: re.compile(rf"(?:{family.lead})(?:^|\s+)", re.I) for family in frames.FAMILIES}
_RESTS = {family: re.compile(family.rest, re.I) for family in frames.FAMILIES}
_PROCEDURE = re.compile(rf"(?:{frames.PROCEDURE.lead})\s+", re.I)
_HOW = re.compile(frames.HOW + r"\s+", re.I)
_ABILITY = re.compile(frames.ABILITY.lead + r"\s+", re.I)
_WANT = re.compile(frames.WANT, re.I)
_ANNOUNCING = re.compile(frames.ANNOUNCING + r"(?=\S)", re.I)
_TOPIC = re.compile(rf"{frames.TOPIC}\s+", re.I)
_ADVICE = re.compile(r"\b(?:should|would|must|shall|might)\b", re.I)
_YES_NO = re.compile(
    r"(?:can|could|may|might|must|shall|should|will|would|do|does|did|is|are|am|was|were|has|have"
    r"|had)(?:n['\u2019]t)?\s",
    re.I,
)
_TASK = re.compile(frames.TASK, re.I)
_REPORT = re.compile(frames.REPORT, re.I)
_NO_REPORT = re.compile(
    r"^(?:i|we|my|our|why|how|what|where|when|if)\b|^\S+(?:\s\S+){0,2}:\s|\b(?:problems?|issues?|help|questions?)\b",
    re.I,
)
_FINITE = re.compile(r"\b(?:is|are|was|were|has|have|does|do|did|can|will|i|we)\b", re.I)
_KINDLY = re.compile(r"(?:if|whether)\s+(?:you|someone|anyone)\s+(?:can|could|would)\b", re.I)
_NO_WISH = re.compile(
    r"\b(?:you|your|yours|yourself|one's|if|when|while|because|without)\b|[:;(]"
    r"|^(?:not|never|know|be|avoid|prevent|best|easily|automatically)\b",
    re.I,
)
_LONGEST_WISH = 12  # words; a longer wish is no longer one breath


@register("variations", "question_frame")
def question_frame(
    questions: Sequence[Question], *, seed: int, yes_no: bool = False
) -> Iterator[list[Rewording] | Skip]:
    """Ask the same in another frame: the steps to X, a way to X, could you tell me how to X."""
    for question in questions:
        draw = keyed_random(seed, question.id, "question_frame")
        yield unusable(question.query) or _reframed(question.query, draw, yes_no)


def _reframed(query: str, draw: Random, yes_no: bool) -> list[Rewording] | Skip:
    protected = Spans(query)
    reason = "no question frame"
    parts = list(clauses(query))
    for clause in [*_wishes(query, parts), *parts]:
        if protected.touch(clause.start, clause.start + len(clause.opener) + 1):
            continue
        found = list(dict.fromkeys(_others(clause, query, yes_no)))
        if found:
            new = query[: clause.start] + draw.choice(found) + query[clause.end :]
            return [changed("question_frame", query, new)]
        if _YES_NO.match(clause.body):
            reason = "yes/no question"
    found = list(_told(parts, query)) if "?" not in query and parts else []
    if found and not protected.touch(0, parts[0].start + 1):
        return [changed("question_frame", query, draw.choice(found) + query[parts[0].end :])]
    return Skip(reason)


def _told(parts: list[Clause], query: str) -> Iterator[str]:
    """Frames for a text that asks nothing: the title of a task, the report of a fault."""
    first = parts[0]
    task = _TASK.match(first.body)
    finite = _FINITE.search(first.body) or _REPORT.search(query)
    if task and not finite and len(parts) == 1 and not first.opener.strip():
        rest = first.body[:1].lower() + first.body[1:]
        yield from sentences(first, Request("", rest, frames.PROCEDURE.made[:3], asks=True), query)
    elif _REPORT.search(first.body) and not _NO_REPORT.search(first.body):
        found = Request("", first.body, frames.REPORTED, asks=False, whole=True)
        yield from sentences(first, found, query)


def _wishes(query: str, parts: list[Clause]) -> Iterator[Clause]:
    """Two sentences that are one frame: `I want to X. How can I do that?`."""
    whole = [part for part in parts if not part.hung]
    for first, second in pairwise(whole):
        at = first.start + len(first.opener)
        body = query[at : second.end].rstrip(" .?!")
        if _WANT.fullmatch(body):
            yield Clause(first.start, second.end, first.opener, body, second.stop)


def _others(clause: Clause, query: str, yes_no: bool) -> Iterator[str]:
    """Every other wording of a clause; those of the first reading that has any."""
    readings = [_wish(clause), _procedure(clause), _family(clause), _direct_inside(clause)]
    for reading in (r for r in readings if r is not None):
        made = list(sentences(clause, reading, query))
        if made:
            yield from made
            return
    if indirect.is_direct(clause.body, clause.stop):
        yield from sentences(clause, _direct(clause), query)
    ability = _ABILITY.match(clause.body) if yes_no else None
    if ability and asks_for_procedure(clause.body[ability.end() :]):
        yield from sentences(clause, request(clause, ability, frames.ABILITY.made), query)


def _wish(clause: Clause) -> Request | None:
    match = _WANT.fullmatch(clause.body)
    if match is None or not asks_for_procedure(match["X"]):
        return None
    lead = clause.body[: match.start("X")]
    made = (*frames.PROCEDURE.made, frames.WANT_LEAD)
    return Request(lead, match["X"], made, asks=True)


def _procedure(clause: Clause) -> Request | None:
    match = _PROCEDURE.match(clause.body)
    if match is None:
        return None
    lead, rest = match[0], clause.body[match.end() :]
    person = re.search(r"\bhow\s+(\w+)\s+(i|we|you|one)\s+$", lead, re.I)
    subject, modal = (person[2], person[1].lower()) if person else ("", "to")
    if not asks_for_procedure(rest, subject=subject, modal=modal):
        return None
    made = _procedure_leads(lead, rest)
    if not lead.split()[-1][:1].isupper():
        rest = rest[:1].lower() + rest[1:]  # How to Apply
    return Request(lead, rest, made, asks=not indirect_lead(lead))


def indirect_lead(lead: str) -> bool:
    """Whether a lead makes a statement: `I would like to know how to`."""
    return lead.split()[0].lower() not in frames.ASKING


def _procedure_leads(lead: str, rest: str) -> tuple[str, ...]:
    """The leads that ask for the same procedure, without those that how_to_do is there for."""
    plain = bool(_HOW.match(lead))
    made = frames.PROCEDURE.made[3 if plain else 0 :]
    if joined(rest):
        infinitive = re.search(r"\bhow\s+to\s+$", lead, re.I)
        return tuple(m for m in made if m.endswith("how to") and m != "how to" and infinitive)
    if not has_steps(rest):
        made = tuple(m for m in made if not m.startswith("what are the steps"))
    if _ADVICE.search(lead):
        made = tuple(m for m in made if not m.startswith("is there"))
    wish = not (_NO_WISH.search(rest) or _ADVICE.search(lead) or re.search(r"\byou\s*$", lead))
    if plain and wish and len(rest.split()) <= _LONGEST_WISH:
        made = (*made, frames.WANT_LEAD)
    return made


def _family(clause: Clause) -> Request | None:
    for family, leads in _LEADS.items():
        match = leads.match(clause.body)
        if match is None or not _RESTS[family].match(clause.body, match.end()):
            continue
        inside = clause.body[match.end() :]
        if family is frames.INDIRECT and (indirect.is_inverted(inside) or _KINDLY.match(inside)):
            return None
        if _asks_inside(inside):
            return None
        verb = family in (frames.CANNOT, frames.WISH) and not is_title(clause.body)
        return request(clause, match, family.made, verb=verb and not clause.body.isupper())
    return None


def _asks_inside(rest: str) -> bool:
    topic = _TOPIC.match(rest)
    inside = rest[topic.end() :] if topic else ""
    return bool(indirect.is_inverted(inside) or _YES_NO.match(inside))


def _direct_inside(clause: Clause) -> Request | None:
    """A direct question after an announcement: `I would like to know: where can I park?`."""
    match = _ANNOUNCING.match(clause.body)
    rest = clause.body[match.end() :] if match else ""
    if match is None or not (indirect.is_inverted(rest) and len(rest.split()) > 2):
        return None
    return Request(match[0], rest[:1].upper() + rest[1:], ("",), asks=False, whole=True)


def _direct(clause: Clause) -> Request:
    """A direct question: told indirectly where the order is certain, else announced."""
    titled = is_title(clause.body)
    inside = None if titled or joined(clause.body) else indirect.embedded(clause.body)
    if inside:
        return Request("", inside, frames.EMBEDDED, asks=True)
    if clause.hung or "question" in clause.body.lower():
        return Request("", clause.body, (), asks=True)
    rest = clause.body if titled else clause.body[:1].lower() + clause.body[1:]
    return Request("", rest, frames.ANNOUNCED, asks=True, whole=True)

"""A clause written anew with another lead: person, capitals and the stop at its end."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from accord.vary import frames
from accord.vary.clauses import Clause

# A second clause hung on the first: it goes on as it is, so the mood of the sentence must stay.
_JOINED = re.compile(
    r"(?:[,;:]|\s[-\u2013\u2014]|&|\b(?:and|but|so|because|since|as|or))\s*"
    r"\b(?:(?:and|but|so|then|also|please)\s+)*(?:i|we|my|our|it|he|she|they|you|can|could|do|does|"
    r"is|are|am|will|would|should|how|what|where|when|why|who|which|need|want|wanted|have|was|"
    r"were|there)\b",
    re.I,
)
_PLURAL = re.compile(r"\b(?:we|us|our|ours|ourselves)\b", re.I)
_TITLED = re.compile(r"(?!I$)[A-Z][a-z]*\W?")
_SINGULAR = re.compile(r"\b(?:i|me|my|mine|myself)\b", re.I)


class Request(NamedTuple):
    """A frame found in a clause: its lead, what follows, and the leads that may replace it."""

    lead: str
    rest: str
    made: tuple[str, ...]
    asks: bool  # whether the sentence is a question now
    slot: str = ""
    just: str = ""
    whole: bool = False  # the rest keeps its mood and its stop


def request(
    clause: Clause, match: "re.Match[str]", made: tuple[str, ...], *, verb: bool = False
) -> Request:
    """The request of a family's lead, with what its groups caught; `verb` if a verb follows."""
    groups = match.groupdict(default="")
    first = match[0].split()[0].lower() if match[0] else ""
    rest = clause.body[match.end() :]
    return Request(
        match[0],
        _uncapped(rest) if not match[0] or (verb and not match[0].isupper()) else rest,
        made,
        asks=first in frames.ASKING or ("?" in clause.stop and not joined(rest)),
        slot=groups.get("slot", ""),
        just=groups.get("just", ""),
    )


def _uncapped(rest: str) -> str:
    return rest[:1].lower() + rest[1:]


def joined(rest: str) -> bool:
    """Whether a second clause hangs on the first."""
    return bool(_JOINED.search(rest))


def sentences(clause: Clause, found: Request, query: str) -> Iterator[str]:
    """The clause with each of the other leads, none of them the one it has."""
    people = _people(found.lead, query)
    has_clause = clause.hung or joined(found.rest) or _goes_on(clause, query)
    for template in found.made:
        lead = " ".join(template.format(**people, slot=found.slot, just=found.just).split())
        asks = bool(lead) and lead.split()[0] in frames.ASKING
        if _same(lead, found.lead) or (has_clause and asks != found.asks and not found.whole):
            continue
        if template == frames.WANT_LEAD:
            if not clause.hung:
                yield _wish(clause, found, lead, people)
            continue
        stop = clause.stop if found.whole and lead else _stop(clause.stop, found, asks, bool(lead))
        yield clause.opener + _joined_up(_styled(lead, clause, query), found.rest) + stop


def _goes_on(clause: Clause, query: str) -> bool:
    """Whether something in brackets follows the stop: another stop would cut it off."""
    return query[clause.end :].lstrip().startswith(("(", "["))


def _wish(clause: Clause, found: Request, lead: str, people: dict[str, str]) -> str:
    tail = frames.WANT_TAIL.format(**people)
    rest = found.rest.rstrip(" .,")
    return clause.opener + _joined_up(_styled(lead, clause, rest), rest) + tail


def _people(lead: str, query: str) -> dict[str, str]:
    """Who asks: as the lead has it, else as the query has it, else I."""
    for text in (lead, query):
        plural, singular = _PLURAL.search(text), _SINGULAR.search(text)
        if plural and not singular:
            return {"I": "we", "me": "us", "am": "are"}
        if singular:
            break
    return {"I": "I", "me": "me", "am": "am"}


def _same(lead: str, old: str) -> bool:
    return lead.lower() == " ".join(old.lower().split())


def _joined_up(lead: str, rest: str) -> str:
    return f"{lead} {rest}" if lead else rest


def _styled(lead: str, clause: Clause, query: str) -> str:
    """The lead in the capitals of the words that it replaces."""
    body = clause.body
    if body.isupper() and len(body) > 3:
        return lead.upper()
    if re.search(r"\bi\b", query) and not re.search(r"\bI\b", query):
        lead = re.sub(r"\bI\b", "i", lead)
    if is_title(body):
        return " ".join(word[:1].upper() + word[1:] for word in lead.split())
    goes_on = clause.opener.strip()[-1:] == ","
    begins = body[:1].isupper() and not (goes_on and re.match(r"I\b", body))
    return lead[:1].upper() + lead[1:] if begins else lead


def is_title(body: str) -> bool:
    """Whether the first words all have capitals: How To Pay."""
    first = body.split()[:3]
    long = re.findall(r"\b[A-Za-z]{4,}", body)
    titled = len(first) == 3 and all(_TITLED.fullmatch(word) for word in first)
    return titled and all(word[:1].isupper() for word in long)


def _stop(stop: str, found: Request, asks: bool, has_lead: bool) -> str:
    """The mark at the end, for a question or for a statement."""
    if not has_lead:
        return "?"
    if asks and not found.asks:
        return re.sub(r"^\s*[.!\u2026]*", "?", stop) if "?" not in stop else stop
    if found.asks and not asks and "?" in stop:
        return re.sub(r"\s*[?!.]+", ".", stop, count=1)
    return stop

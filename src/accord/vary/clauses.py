"""A query cut into sentences, each as opener, body and stop: `Hi, | how do I pay | ?`."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from accord.vary.guards import Spans, words

_STOP = re.compile(r"(?<=\S)[.?!\u2026]+(?=\s|$)|\n+")
_ABBREVIATED = words("e.g i.e vs etc no nr dr mr mrs ms st u.s approx incl fig sec vol ver v dept")
_LETTERS = re.compile(r"(?:[a-z]\.)+[a-z]")  # U.S.
_OPENER = re.compile(
    r"(?:[\W_]*(?:(?:hi|hello|hey|good\s+(?:morning|afternoon|evening|day)|yes|yeah|ok|okay|so|"
    r"also|and|but|then|well|thanks|thank\s+you|q)\b[,.!:]*|(?:there|please|now|question|qn),)\s+"
    r"|[\s\"'(*#>\u2022\-]+(?=\w))*",
    re.I,
)
_KNOW = r"(?:i|we)\s+(?:want|wanted|would\s+like)\s+to\s+know\b"
_HUNG = re.compile(
    rf"[,:]\s+(?:(?:so|and|but|then)\s+)?|\s[-\u2013\u2014]\s|\s(?:and|but)\s+(?={_KNOW})", re.I
)
_ASKING = re.compile(
    rf"(?:how|what|where|when|which|who|why)\b|(?:can|could|would)\s+you\b|{_KNOW}", re.I
)


class Clause(NamedTuple):
    """A sentence, or the question hung on one (`My phone broke, | how do I mend it | ?`)."""

    start: int
    end: int
    opener: str
    body: str
    stop: str
    hung: bool = False


def clauses(query: str) -> Iterator[Clause]:
    """The sentences of a query in order, and after each one the question that hangs on it."""
    start = 0
    for end in (*_stops(query), len(query)):
        sentence = query[start:end].rstrip()
        if sentence.strip():
            whole = _clause(query, start, start + len(sentence))
            yield whole
            yield from _hung(whole)
        start = end


def _stops(query: str) -> Iterator[int]:
    protected = Spans(query)
    for match in _STOP.finditer(query):
        before = query[max(0, match.start() - 12) : match.start()].split()
        word = before[-1].lower().lstrip("(") if before else ""
        letter = (len(word) == 1 and word != "i") or _LETTERS.fullmatch(word)
        short = match[0] == "." and bool(word in _ABBREVIATED or letter)
        if not short and not protected.touch(*match.span()):
            yield match.end()


def _clause(query: str, start: int, end: int) -> Clause:
    text = query[start:end]
    opener = _OPENER.match(text)
    at = opener.end() if opener else 0
    body = text[at:].rstrip(" \t\r\n.?!\u2026")
    return Clause(start, end, text[:at], body, text[at + len(body) :])


def _hung(whole: Clause) -> Iterator[Clause]:
    """The last part after a comma, colon or dash that begins like a question."""
    breaks = [m for m in _HUNG.finditer(whole.body) if _ASKING.match(whole.body, m.end())]
    if breaks:
        at = breaks[-1].end()
        opener = whole.opener + whole.body[:at]
        yield whole._replace(opener=opener, body=whole.body[at:], hung=True)

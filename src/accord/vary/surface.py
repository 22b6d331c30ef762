"""Wordings that differ on the surface: the question mark, capitals, politeness.

None of them needs a parser. Quotes, code and addresses stay as they are.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from accord.records import Question
from accord.registry import register
from accord.vary import frames, indirect
from accord.vary.clauses import Clause, clauses
from accord.vary.gate import unusable
from accord.vary.guards import Spans
from accord.vary.outcome import Rewording, Skip, changed, keyed_random

Capitals = Literal["lower", "sentence", "title", "upper"]
"""`lower` takes capitals from the starts of sentences, `sentence` puts them there."""

_MARK = re.compile(r"\s*\?[?!.\s]*$")
_HOW = re.compile(frames.HOW + r"\b", re.I)
_INVERTED = re.compile(
    r"(?:can|could|should|would|will|may|must|do|does|did|is|are|am|was|were|has|have)"
    r"(?:n['\u2019]t)?\s+(?:i|we|you|it|they|he|she|there|this|that|these|those|the|my|our|your|"
    r"any|anyone|someone)\b",
    re.I,
)
_ASKS = re.compile(
    rf"\b(?:how|what|where|when|which|who|whom|whose|why)\b|(?:,|\bor|\band)\s+{_INVERTED.pattern}",
    re.I,
)
_STATEMENT = re.compile(r"(?:do|have|has)\s+(?:the|my|our|your|this|that|it|any)\b", re.I)
_WORD = re.compile(r"\S+")
_LETTER = re.compile(r"\w")
_PLAIN = re.compile(r"\W*(?P<word>[A-Za-z]+(?:['\u2019-][A-Za-z]+)*)[,;:.?!)]*")
_WISH = re.compile(
    r"(?:i|we)(?:\s+would\s+like|['\u2019]d\s+like|\s+want|\s+need|\s+have\s+(?:a|some)\s+question)",
    re.I,
)
_REQUEST = re.compile(r"(?:can|could|would|will)\s+you\s+(?!please|kindly)", re.I)
_IMPERATIVE = re.compile(r"(?:tell|show|give|help|send|walk)\s+(?:me|us)\b|explain\s", re.I)
_PLEASE = re.compile(r",?\s+please\b(?=\s*[?.!]*\s*$)|(?<=\byou\s)please\s+|^please,?\s+", re.I)


@register("variations", "question_mark")
def question_mark(questions: Sequence[Question], *, seed: int) -> Iterator[list[Rewording] | Skip]:
    """Leave out the question mark at the end, or put one after a question that has none."""
    for question in questions:
        yield unusable(question.query) or _marked(question.query)


def _marked(query: str) -> list[Rewording] | Skip:
    last = [clause for clause in clauses(query) if not clause.hung][-1]
    if _MARK.search(query):
        # Without its mark, "The lamp is broken?" is a statement.
        asks = _is_question(last) or _ASKS.search(last.body)
        bare = _MARK.sub("", query)
        return (
            [changed("question_mark", query, bare)]
            if asks and bare.strip()
            else Skip("not a question")
        )
    if not _is_question(last) or re.search(r"[!:;,\u2026`\"')\]]\s*$|\.\.\s*$", query):
        return Skip("not a question")
    text = query.rstrip().rstrip(".")
    return [changed("question_mark", query, text + "?")]


def _is_question(clause: Clause) -> bool:
    body = clause.body
    if len(body.split()) < 2:
        return False
    if _HOW.match(body) or indirect.is_direct(body, clause.stop):
        return True
    return bool(_INVERTED.match(body)) and not _STATEMENT.match(body)


@register("variations", "case")
def case(
    questions: Sequence[Question], *, seed: int, to: Capitals | None = None
) -> Iterator[list[Rewording] | Skip]:
    """Other capitals: lower, sentence, title or upper case; codes and mixed case stay."""
    for question in questions:
        query = question.query
        if reason := unusable(query):
            yield reason
            continue
        kinds = (to,) if to else get_args(Capitals)
        made = [new for new in _recased(query, kinds) if new != query]
        draw = keyed_random(seed, question.id, "case")
        yield (
            [changed("case", query, draw.choice(made))] if made else Skip("no other capitals fit")
        )


def _recased(query: str, kinds: Sequence[str]) -> list[str]:
    """The query in each kind of capitals."""
    protected = Spans(query)
    starts, shouting = _starts(query), _is_shouting(query)
    titled = _is_titled(query)
    found = []
    for match in _WORD.finditer(query):
        plain = _PLAIN.fullmatch(match[0])
        if plain and not protected.touch(*match.span()):
            found.append((match.start() + plain.start("word"), plain["word"]))
    made = []
    for kind in kinds:
        new = list(query)
        for start, word in found:
            new[start : start + len(word)] = _word(
                word, kind, start in starts or (titled and kind == "lower"), shouting
            )
        made.append("".join(new))
    return made


def _starts(query: str) -> set[int]:
    """Where the first word of each sentence begins."""
    found = (_LETTER.search(query, c.start, c.end) for c in clauses(query) if not c.hung)
    return {match.start() for match in found if match}


def _is_shouting(query: str) -> bool:
    """Whether all is in capitals: then capitals make no acronym."""
    long = re.findall(r"[A-Za-z]{2,}", query)
    return len(long) > 2 and all(word.isupper() for word in long)


def _is_titled(query: str) -> bool:
    """Whether every longer word has a capital: then capitals make no name."""
    long = re.findall(r"\b[A-Za-z]{4,}\b", query)
    return len(long) > 1 and all(word[:1].isupper() for word in long)


def _word(word: str, kind: str, first: bool, shouting: bool) -> str:
    """One word in other capitals; acronyms and mixed case (iPhone) stay, as do names."""
    if not (word.islower() or word[1:].islower() or len(word) == 1 or shouting):
        return word
    if kind == "upper":
        return word.upper()
    if kind == "title":
        return word[:1].upper() + (word[1:].lower() if shouting else word[1:])
    if kind == "sentence":
        return _sentence_word(word, first, shouting)
    return word.lower() if first or shouting or re.match(r"I\b", word) else word


def _sentence_word(word: str, first: bool, shouting: bool) -> str:
    if re.match(r"i\b", word, re.I) and not re.match(r"i['\u2019]s", word, re.I):
        return "I" + word[1:].lower()
    lower = word.lower() if shouting else word
    return lower[:1].upper() + lower[1:] if first else lower


@register("variations", "politeness")
def politeness(questions: Sequence[Question], *, seed: int) -> Iterator[list[Rewording] | Skip]:
    """Add a please, a greeting or thanks to a request, or take the please away."""
    for question in questions:
        if reason := unusable(question.query):
            yield reason
            continue
        made = _politer(question.query)
        draw = keyed_random(seed, question.id, "politeness")
        yield (
            [changed("politeness", question.query, draw.choice(made))]
            if made
            else Skip("no request that can be made polite")
        )


def _politer(query: str) -> list[str]:
    parts = [clause for clause in clauses(query) if not clause.hung]
    plain = [new for c in parts if (new := _without_please(c, query)) is not None]
    if plain or re.search(r"\b(?:please|kindly|thanks|thank)\b", query, re.I):
        return plain[:1]
    asking = [c for c in parts if _is_question(c) or _asks_kindly(c)]
    if not asking:
        return []
    made = [new for c in asking[-1:] for new in _with_please(c, query)]
    if not asking[0].opener.strip() and parts[0] is asking[0]:
        made += [f"{hello}, {_uncapped(query)}" for hello in ("Hello", "Hi")]
    if re.search(r"[.?!]\s*$", query):
        made += [f"{query.rstrip()} {thanks}" for thanks in ("Thanks.", "Thank you.")]
    return made


def _asks_kindly(clause: Clause) -> bool:
    return any(found.match(clause.body) for found in (_WISH, _REQUEST, _IMPERATIVE))


def _without_please(clause: Clause, query: str) -> str | None:
    text = query[clause.start : clause.end]
    found = _PLEASE.search(text)
    if found is None or Spans(query).touch(
        clause.start + found.start(), clause.start + found.end()
    ):
        return None
    rest = text[: found.start()] + text[found.end() :]
    if found.start() == 0:
        if not (_IMPERATIVE.match(rest) or _REQUEST.match(rest)):
            return None
        rest = rest[:1].upper() + rest[1:] if text[:1].isupper() else rest
    return query[: clause.start] + rest + query[clause.end :]


def _with_please(clause: Clause, query: str) -> Iterator[str]:
    """The clause with a please where it belongs: `could you please`, `please tell me`."""
    at = clause.start + len(clause.opener)
    request = _REQUEST.match(clause.body)
    if request:
        yield f"{query[: at + request.end()]}please {query[at + request.end() :]}"
    elif _IMPERATIVE.match(clause.body):
        please = "Please" if clause.body[:1].isupper() else "please"
        yield f"{query[:at]}{please} {_uncapped(query[at:])}"
    elif "?" in clause.stop and not re.search(r"[`\"')\]]$", clause.body):
        end = at + len(clause.body)
        yield f"{query[:end]}, please{query[end:]}"


def _uncapped(text: str) -> str:
    """The text without the capital of its first word; I and names in capitals keep theirs."""
    first = text.split(maxsplit=1)[0]
    if first[:1] == "I" and not first[1:2].isalpha():
        return text
    return text[:1].lower() + text[1:] if not first[1:2].isupper() else text

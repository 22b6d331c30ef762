"""What is asked for each row of the table, and the answers to it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from accord.generate.request import Request, request
from accord.records import Answer, Passage, Question, Wording

Contexts = Literal["own", "original", "gold"]
Passages = Mapping[str, Sequence[Passage]]


class Ask(NamedTuple):
    """A wording, the query that is put for it, and the passages that go with it, best first."""

    wording: Wording
    query: str
    passages: tuple[Passage, ...]
    contexts: Contexts = "own"


class Row(NamedTuple):
    """A row of the table: the folder of its model, and all that it is asked."""

    folder: Path
    asks: tuple[Ask, ...]


def asks(
    wordings: Sequence[Wording], found: Passages, gold: Passages, modes: Iterable[Contexts]
) -> list[Ask]:
    """Every wording with each kind of contexts.

    `found`: passages retrieved for each wording. `gold`: of each question that has any.
    `own`: what was retrieved for the wording; `original`: for its original question, which has no
    ask of that kind itself; `gold`: the gold passages, where there are some.
    """
    made = []
    for mode in modes:
        for w in wordings:
            if mode == "own":
                made.append(Ask(w, w.query, tuple(found[w.id]), mode))
            elif mode == "original" and w.type is not None:
                made.append(Ask(w, w.query, tuple(found[w.original_id]), mode))
            elif mode == "gold" and w.original_id in gold:
                made.append(Ask(w, w.query, tuple(gold[w.original_id]), mode))
    return made


def gold_contexts(
    questions: Sequence[Question], passages: Sequence[Passage]
) -> dict[str, list[Passage]]:
    """The gold passages of each question that has any, in its order; by id, or as texts of its own.

    What is not in the collection is left out.
    """
    by_id = {p.id: p for p in passages}
    gold = {}
    for q in questions:
        own = [Passage(id=f"{q.id}#gold{n}", text=t) for n, t in enumerate(q.contexts) if t.strip()]
        gold[q.id] = [by_id[i] for i in q.context_ids if i in by_id] or own
    return {id_: found for id_, found in gold.items() if found}


def request_of(ask: Ask) -> Request:
    """What a model is asked, whoever asks it."""
    w = ask.wording
    return request(w.id, ask.query, ask.passages, w.turns, w.as_is)


def answer(model: str, ask: Ask, text: str, ended: bool, repeat: int) -> Answer:
    """The record of an answer; `asked` is there where the query put is not the wording's own."""
    w = ask.wording
    record = {
        "model": model,
        "id": w.id,
        "original_id": None if w.type is None else w.original_id,
        "type": w.type,
        "query": w.query,
        "answer": text,
        "passages": [p.id for p in ask.passages],
        "contexts": ask.contexts,
        "repeat": repeat,
    }
    record |= {} if ask.query == w.query else {"asked": ask.query}
    record |= {} if ended else {"truncated": True}
    return Answer.model_validate(record)

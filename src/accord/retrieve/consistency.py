"""How steady the retriever is: each rewording's passages beside those of its original question."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from accord.rankings import jaccard, rbo, same_first
from accord.records import Grounded, Passage, Question, Record
from accord.retrieve.received import text_id

Table = dict[str, dict[str, Any]]


class Steadiness(Record):
    """One rewording beside its original: agreement of their passages, and the gold ones found.

    Null where there is nothing to compare: both got no passage, or one of the two queries failed.
    `gold`, `gold_original`: whether a gold passage is among those of the rewording, of the
    original; null where none is known.
    """

    id: str
    original_id: str
    type: str
    jaccard: float | None
    rbo: float | None
    same_first: float | None
    gold: bool | None = None
    gold_original: bool | None = None


def gold_passages(
    questions: Sequence[Question], passages: Sequence[Passage]
) -> dict[str, frozenset[str]]:
    """The ids of the gold passages of each question that has any.

    Gold texts without ids are those passages of the collection, or of a retriever that gives texts
    without ids, that are the same to the letter.
    """
    by_text: dict[str, list[str]] = {}
    for p in passages:
        by_text.setdefault(p.text, []).append(p.id)
    gold = {}
    for q in questions:
        texts = () if q.context_ids else q.contexts
        ids = [i for text in texts for i in (*by_text.get(text, ()), text_id(text))]
        gold[q.id] = frozenset([*q.context_ids, *ids])
    return {id_: ids for id_, ids in gold.items() if ids}


def consistency(
    grounded: Sequence[Grounded], types: Mapping[str, str], gold: Mapping[str, Collection[str]]
) -> list[Steadiness]:
    """One line for each rewording, in order.

    `types`: the kind of each rewording by id. `gold`: ids of the gold passages of each question
    that has any.
    """
    by_id = {g.id: g for g in grounded}
    return [
        _compared(g, by_id[g.original_id], types[g.id], gold.get(g.original_id, ()))
        for g in grounded
        if g.id in types and g.original_id in by_id
    ]


def _compared(own: Grounded, first: Grounded, kind: str, gold: Collection[str]) -> Steadiness:
    here, there = ([ranked.id for ranked in g.passages] for g in (own, first))
    answered = not any((g.model_extra or {}).get("failed") for g in (own, first))
    known = answered and bool(gold)
    return Steadiness(
        id=own.id,
        original_id=own.original_id,
        type=kind,
        jaccard=_number(jaccard(here, there)) if answered else None,
        rbo=_number(rbo(here, there)) if answered else None,
        same_first=_number(same_first(here, there)) if answered else None,
        gold=_holds(own, gold) if known else None,
        gold_original=_holds(first, gold) if known else None,
    )


def _holds(grounded: Grounded, gold: Collection[str]) -> bool:
    """Whether a gold passage is there; a part of a document counts as the document."""
    ids = {r.id for r in grounded.passages}
    documents = {(r.model_extra or {}).get("document") for r in grounded.passages}
    return not (ids | documents).isdisjoint(gold)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def by_kind(rows: Sequence[Steadiness]) -> Table:
    """Means and numbers of pairs by kind of rewording, `all` first; null where nothing is known.

    `gold`, `gold_original`: hit rates over the rewordings whose gold passages are known, each
    original counting once for each rewording. `kept`: of the rewordings whose original found one,
    those that find one too.
    """
    kinds = ("all", *dict.fromkeys(row.type for row in rows))
    return {kind: _means([row for row in rows if kind in ("all", row.type)]) for kind in kinds}


def _means(rows: Sequence[Steadiness]) -> dict[str, Any]:
    names = ("jaccard", "rbo", "same_first", "gold", "gold_original")
    means = {name: _mean([getattr(row, name) for row in rows]) for name in names}
    had = [row.gold for row in rows if row.gold_original]
    return {
        "n": len(rows),
        "questions": len({row.original_id for row in rows}),
        **means,
        "kept": _mean(had),
        "had": len(had),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def sentence(table: Table, k: int) -> str:
    """What the table says of all rewordings, for a note."""
    own = table["all"]
    if not own["n"]:
        return "no rewordings: nothing is said on the retriever's consistency"
    shown = {name: _shown(own[name]) for name in ("jaccard", "rbo", "same_first", "kept")}
    gold = f", a gold passage kept in {shown['kept']} of {own['had']}" if own["had"] else ""
    return (
        f"retriever's consistency over {own['n']} rewordings of {own['questions']} questions: "
        f"Jaccard@{k} {shown['jaccard']}, rank-biased overlap {shown['rbo']}, same first passage "
        f"{shown['same_first']}{gold}"
    )


def text_table(table: Table) -> str:
    """The table by kind, for a terminal."""
    heads = ("rewordings", "n", "Jaccard", "RBO", "same first", "gold found", "original", "kept")
    names = ("jaccard", "rbo", "same_first", "gold", "gold_original", "kept")
    rows = [(kind, str(own["n"]), *(_shown(own[n]) for n in names)) for kind, own in table.items()]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (heads, *rows)
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

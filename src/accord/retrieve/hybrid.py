"""Reciprocal rank fusion of several retrievers (Cormack, Clarke & Buettcher 2009)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from accord.errors import InputError
from accord.records import Passage, Ranked
from accord.registry import register
from accord.retrieve.asking import Encode, Level, ask, check_retriever
from accord.retrieve.received import Collection, Failure, Ranking, clean

WHERE = "retrieve.of"
OF = ("bm25", "dense")


@register("retrievers", "hybrid")
def hybrid(
    passages: Sequence[Passage],
    queries: Sequence[str],
    *,
    k: int,
    encode: Encode | None,
    level: Level | None,
    of: tuple[str | dict[str, Any], ...] = OF,
    depth: Annotated[int, Field(ge=1)] = 100,
    constant: Annotated[float, Field(ge=0)] = 60.0,
) -> Iterator[tuple[Ranked, ...] | Failure]:
    """Several retrievers in one ranking by reciprocal rank fusion, bm25 and dense by default.

    Yields for each query, in order, its `k` best passages: score = the sum over the
    retrievers of 1 / (constant + rank), equal scores in the order of the retrievers. `of`: names,
    or {type, options}. `depth`: how many passages of each are looked at, at least `k`. A query that
    one of them could not answer has failed.

    Raises InputError for a part that is no retriever or has wrong options.
    """
    known = Collection(passages)
    deep = max(k, depth)
    rankings = [
        ask(name, passages, queries, k=deep, options=options, encode=encode, level=level)
        for name, options in parts(of)
    ]
    for query, *found in zip(queries, *rankings, strict=True):
        yield fuse([clean(query, one, deep, known) for one in found], k, constant)


def parts(of: Sequence[str | Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """(name, options) of each part; raises InputError for what is none."""
    if len(of) < 2:
        raise InputError(f"{WHERE}: found {len(of)}; at least two retrievers are wanted")
    found = []
    for one in of:
        options = {"type": one} if isinstance(one, str) else dict(one)
        name = options.pop("type", None)
        if not isinstance(name, str):
            raise InputError(
                f"{WHERE}: a retriever without `type`; `{{type: NAME, ...}}` is wanted"
            )
        found.append((name, check_retriever(name, options, WHERE)))
    return found


def fuse(rankings: Sequence[Ranking], k: int, constant: float) -> tuple[Ranked, ...] | Failure:
    """One ranking of at most `k` from several; a failure if one of them failed."""
    failed = next((found.failed for found in rankings if found.failed is not None), None)
    if failed is not None:  # what is left would be another retriever
        return Failure(failed)
    scores: dict[str, float] = {}
    first: dict[str, Ranked] = {}
    for found in rankings:
        for rank, one in enumerate(found.passages, start=1):
            scores[one.id] = scores.get(one.id, 0.0) + 1 / (constant + rank)
            first.setdefault(one.id, one)
    best = sorted(scores, key=lambda id_: -scores[id_])[:k]  # stable
    return tuple(first[id_].model_copy(update={"score": scores[id_]}) for id_ in best)

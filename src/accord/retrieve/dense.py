"""Exact search with a sentence encoder: every passage is compared with every query, in blocks.

What is unusual is the care for ties: BLAS gives the product of the same two vectors other last bits
in another place of a block. So blocks only choose candidates; these are scored one by one in fp64,
and the result depends on no block size.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.records import Passage, Ranked
from accord.registry import register
from accord.retrieve.collection import full_text, require_passages

Encode = Callable[[Sequence[str]], NDArray[Any]]
Floats = NDArray[np.float32]

QUERIES, PASSAGES = 256, 8192
"""Rows and columns of a block: 8 MB of scores."""
_MARGIN = 1e-4  # how far the scores of a block may lie from the true ones, with vectors of length 1


@register("retrievers", "dense")
def dense(
    passages: Sequence[Passage],
    queries: Sequence[str],
    *,
    k: int,
    encode: Encode,
    query_prefix: str = "",
    passage_prefix: str = "",
) -> Iterator[tuple[Ranked, ...]]:
    """Cosine of a sentence encoder's vectors, exact; equal scores in the order of the file.

    Yields for each query, in order, its `k` best passages, best first. `encode` is given by the
    run: texts (N) to vectors (N, D) of length 1. Encoders that were trained with instructions need
    theirs before each text: E5 wants `query: ` and `passage: `. A query of many words or a long
    passage is cut at the encoder's window.

    Raises InputError if there are no passages.
    """
    require_passages(passages)
    texts = [passage_prefix + full_text(p) for p in passages]
    # Equal texts share a vector: encoded in other batches they might differ in the last bit.
    place = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    copies: list[list[int]] = [[] for _ in place]
    for n, text in enumerate(texts):
        copies[place[text]].append(n)
    vectors = np.ascontiguousarray(encode(list(place)), dtype=np.float32)
    if not queries:
        return
    asked = np.ascontiguousarray(encode([query_prefix + q for q in queries]), dtype=np.float32)
    for best in nearest(asked, vectors, k):
        ranked = [(-score, n) for column, score in best for n in copies[column]]
        yield tuple(Ranked(id=passages[n].id, score=-below) for below, n in sorted(ranked)[:k])


def nearest(
    queries: Floats, passages: Floats, k: int, *, block: tuple[int, int] = (QUERIES, PASSAGES)
) -> Iterator[list[tuple[int, float]]]:
    """For each query, (row of `passages`, inner product) of the `k` best, best first.

    queries [Q, D] and passages [P, D] of length 1. Rows of equal score at the k-th place are all
    given, in order. Memory beside the vectors: one block of scores and the candidates.
    """
    for start in range(0, len(queries), block[0]):
        own = queries[start : start + block[0]]
        rows, columns = _candidates(own, passages, k, block[1])
        ends = np.searchsorted(rows, np.arange(len(own) + 1))
        for n, query in enumerate(own):
            near = columns[ends[n] : ends[n + 1]]
            # numpy sums each row by itself, so that a score does not depend on its neighbours.
            scores = (passages[near].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
            order = np.argsort(-scores, kind="stable")
            last = scores[order[min(k, len(order)) - 1]]
            yield [(int(near[i]), float(scores[i])) for i in order if scores[i] >= last]


def _candidates(
    queries: Floats, passages: Floats, k: int, width: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(rows of queries, rows of passages), in order: all that can be among the `k` best."""
    floor = np.full(len(queries), -np.inf, dtype=np.float32)  # a k-th best score seen so far
    found: list[tuple[NDArray[np.intp], NDArray[np.intp], Floats]] = []
    for start in range(0, len(passages), width):
        scores = queries @ passages[start : start + width].T
        if scores.shape[1] >= k:
            at = scores.shape[1] - k
            floor = np.maximum(floor, np.partition(scores, at, axis=1)[:, at])
        rows, columns = np.nonzero(scores >= floor[:, None] - _MARGIN)
        found.append((rows, columns + start, scores[rows, columns]))
    rows, columns, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = values >= floor[rows] - _MARGIN
    rows, columns = rows[kept], columns[kept]
    order = np.lexsort((columns, rows))
    return rows[order], columns[order]

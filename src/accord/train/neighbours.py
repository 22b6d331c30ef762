"""Positives and negatives of the triplet loss (paper, section 3.2).

For an anchor query the paper draws P from its "top 10" and N from its "bottom 10" in the space of
a sentence encoder: the 10 nearest and the 10 farthest queries. A query is no neighbour of itself
nor of an identical string; another wording of the same question may be a positive, never a
negative.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError

NEAREST = 10
LEAST_QUERIES = 2 * NEAREST + 1


@dataclass(frozen=True)
class Neighbours:
    """Rows of the nearest and of the farthest queries for each of T queries."""

    nearest: tuple[tuple[int, ...], ...]
    farthest: tuple[tuple[int, ...], ...]

    def draw(self, row: int, name: str, seed: int, epoch: int) -> tuple[int, int]:
        """(positive, negative) rows for a query, by (seed, epoch, id) and not from a stream."""
        digest = hashlib.sha256(f"{seed}\x1f{epoch}\x1f{name}".encode()).digest()
        near, far = self.nearest[row], self.farthest[row]
        return (
            near[int.from_bytes(digest[:8], "big") % len(near)],
            far[int.from_bytes(digest[8:16], "big") % len(far)],
        )


def find_neighbours(
    vectors: NDArray[np.float32],
    queries: Sequence[str],
    originals: Sequence[str],
    *,
    row_name: str,
    block: int = 1024,
) -> Neighbours:
    """The 10 nearest and 10 farthest queries of each query, by cosine.

    Args:
        vectors: [T, D], L2-normalised, one for each query.
        queries: their texts, [T].
        originals: the id of the question each belongs to, [T].
        row_name: the model they are for, for errors.
        block: queries compared at once; memory is block * T, never T * T.

    Raises InputError for fewer than 21 queries, or where a query has no neighbour left.
    """
    if len(queries) < LEAST_QUERIES:
        raise InputError(
            f"train: {row_name} has {len(queries)} training queries and the triplet loss needs "
            f"{LEAST_QUERIES} (10 nearest, 10 farthest and the query itself); give more questions "
            "to the train split, or set train.loss=ce"
        )
    text_codes = np.unique(np.asarray(queries), return_inverse=True)[1]
    group_codes = np.unique(np.asarray(originals), return_inverse=True)[1]
    nearest: list[tuple[int, ...]] = []
    farthest: list[tuple[int, ...]] = []
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        similar = vectors[rows] @ vectors.T
        same_text = text_codes[rows, None] == text_codes[None]
        same_group = group_codes[rows, None] == group_codes[None]
        nearest += _best(np.where(same_text, -np.inf, similar))
        farthest += _best(np.where(same_text | same_group, -np.inf, -similar))
    for row, (near, far) in enumerate(zip(nearest, farthest, strict=True)):
        if not near or not far:
            raise InputError(
                f"train: {row_name}: the query {queries[row]!r} has no other query to be "
                "compared with; give more different questions to the train split"
            )
    return Neighbours(tuple(nearest), tuple(farthest))


def _best(scores: NDArray[np.float32]) -> list[tuple[int, ...]]:
    """The columns of the up to 10 highest finite scores in each row, best first, ties by column."""
    picked = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
    return [
        tuple(int(c) for c in columns if np.isfinite(row[c]))
        for row, columns in zip(scores, picked, strict=True)
    ]

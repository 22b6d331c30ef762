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
BLOCK = 256  # queries compared with all others at once
GROUP = 64  # columns that are looked at through their best one

Floats = NDArray[np.float32]
Rows = NDArray[np.int32]


@dataclass(frozen=True)
class Neighbours:
    """Rows of the nearest and of the farthest queries of each of T queries: [T, 10] each.

    Best first; -1 where a query has fewer.
    """

    nearest: Rows
    farthest: Rows

    def draw(self, row: int, name: str, seed: int, epoch: int) -> tuple[int, int]:
        """(positive, negative) rows for a query, by (seed, epoch, id) and not from a stream."""
        digest = hashlib.sha256(f"{seed}\x1f{epoch}\x1f{name}".encode()).digest()
        near, far = self.nearest[row], self.farthest[row]
        return (
            int(near[int.from_bytes(digest[:8], "big") % int((near >= 0).sum())]),
            int(far[int.from_bytes(digest[8:16], "big") % int((far >= 0).sum())]),
        )


def find_neighbours(
    vectors: Floats,
    queries: Sequence[str],
    originals: Sequence[str],
    *,
    row_name: str,
    block: int = BLOCK,
) -> Neighbours:
    """The 10 nearest and 10 farthest queries of each query, by cosine; ties to the earlier row.

    Args:
        vectors: [T, D], L2-normalised, one for each query.
        queries: their texts, [T].
        originals: the id of the question each belongs to, [T].
        row_name: the model they are for, for errors.
        block: queries compared at once; memory is block * T, never T * T.

    Raises InputError for fewer than 21 queries, or where a query has no neighbour left.
    """
    require_queries(row_name, len(queries))
    same_text, same_question = _Alike(queries), _Alike(originals)
    nearest = np.full((len(queries), NEAREST), -1, dtype=np.int32)
    farthest = nearest.copy()
    # Whole groups of columns; what is beyond T is nobody's neighbour.
    others = np.pad(vectors, ((0, -len(vectors) % GROUP), (0, 0))).T
    for start in range(0, len(queries), block):
        rows = range(start, min(start + block, len(queries)))
        similar = vectors[start : rows.stop] @ others
        similar[:, len(queries) :] = -np.inf
        same_text.exclude(rows, similar)
        nearest[start : rows.stop] = _best(similar)
        np.negative(similar, out=similar)
        similar[:, len(queries) :] = -np.inf
        same_text.exclude(rows, similar)
        same_question.exclude(rows, similar)
        farthest[start : rows.stop] = _best(similar)
    lacking = np.flatnonzero((nearest[:, 0] < 0) | (farthest[:, 0] < 0))
    if len(lacking):
        raise InputError(
            f"train: {row_name}: the query {queries[lacking[0]]!r} has no other query to be "
            "compared with; give more different questions to the train split"
        )
    return Neighbours(nearest, farthest)


def require_queries(row_name: str, count: int) -> None:
    """Raise InputError for fewer than 21 queries."""
    if count < LEAST_QUERIES:
        raise InputError(
            f"train: {row_name} has {count} training queries and the triplet loss needs "
            f"{LEAST_QUERIES} (10 nearest, 10 farthest and the query itself); give more questions "
            "to the train split, or set train.loss=ce"
        )


class _Alike:
    """Which rows have the same key, without a T x T mask."""

    def __init__(self, keys: Sequence[str]) -> None:
        members: dict[str, list[int]] = {}
        for row, key in enumerate(keys):
            members.setdefault(key, []).append(row)
        self.of = [members[key] for key in keys]

    def exclude(self, rows: range, scores: Floats) -> None:
        """Set the scores of each row with those of the same key, itself among them, to -inf."""
        for n, row in enumerate(rows):
            scores[n, self.of[row]] = -np.inf


def _best(scores: Floats) -> Rows:
    """The columns of the 10 highest scores of each row [N, M], best first, ties by column; -1 where
    a score is -inf. M is a multiple of GROUP.

    The best 10 lie in the 10 groups of neighbouring columns with the highest maxima: were one in a
    group that comes after 10 others, each of those would have a score as good in an earlier
    column. So one pass over the scores finds the groups, and only those are sorted.
    """
    count = len(scores)
    groups = _first(scores.reshape(count, -1, GROUP).max(axis=2))
    columns = (np.sort(groups)[:, :, None] * GROUP + np.arange(GROUP)).reshape(count, -1)
    found = np.take_along_axis(columns, _first(np.take_along_axis(scores, columns, axis=1)), axis=1)
    kept = np.take_along_axis(scores, found, axis=1) > -np.inf
    out = np.full((count, NEAREST), -1, dtype=np.int32)
    out[:, : found.shape[1]] = np.where(kept, found, -1)
    return out


def _first(scores: Floats) -> NDArray[np.int64]:
    """The columns of the up to 10 highest scores of each row, best first, ties by column."""
    most = min(NEAREST, scores.shape[1])
    # The 10th best bounds them; a stable sort of what reaches it orders ties by column.
    bound = -np.partition(-scores, most - 1, axis=1)[:, most - 1 : most]
    rank = np.where(scores >= bound, -scores, np.float32(np.inf))
    return np.argsort(rank, axis=1, kind="stable")[:, :most]

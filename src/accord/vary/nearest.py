"""All pairs of near vectors, exactly and in blocks: no matrix of all pairs is ever made."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.progress import SILENT, Progress

Floats = NDArray[np.float32]

ROWS, COLUMNS = 512, 8192  # of a block of similarities: 16 MiB in fp32
NEIGHBOURS = 50  # pairs kept of a row: what is all alike would make N^2 of them


def near_pairs(
    vectors: Floats, threshold: float, *, progress: Progress = SILENT
) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of normalised rows (N, D) with at least this similarity, nearest first.

    Of each row i at most the nearest `NEIGHBOURS` are given.
    """
    found = []
    for start in range(0, len(vectors), ROWS):
        rows = vectors[start : start + ROWS]
        found.append(_near(rows, vectors, start, threshold))
        progress.advance(len(rows), "compared")
    if not found:
        return
    pairs = np.concatenate(found)
    # Rounded: the last bits depend on the block.
    order = np.lexsort((pairs["j"], pairs["i"], -pairs["similarity"].round(5)))
    for pair in pairs[order]:
        yield int(pair["i"]), int(pair["j"])


_PAIR = np.dtype([("i", np.int64), ("j", np.int64), ("similarity", np.float32)])


def _near(rows: Floats, vectors: Floats, start: int, threshold: float) -> NDArray[Any]:
    """The pairs of some rows with all rows after them."""
    pairs = np.zeros(0, _PAIR)
    for left in range(start, len(vectors), COLUMNS):
        block = rows @ vectors[left : left + COLUMNS].T
        i, j = np.nonzero(block >= threshold)
        new = np.zeros(len(i), _PAIR)
        new["i"], new["j"], new["similarity"] = i + start, j + left, block[i, j]
        pairs = np.concatenate([pairs, new[new["i"] < new["j"]]])
        if len(pairs) > 4 * NEIGHBOURS * len(rows):
            pairs = _nearest(pairs)
    return _nearest(pairs)


def _nearest(pairs: NDArray[Any]) -> NDArray[Any]:
    """The nearest pairs of each row; of equally near ones those of the first rows."""
    pairs = pairs[np.lexsort((pairs["j"], -pairs["similarity"].round(5), pairs["i"]))]
    _, first, counts = np.unique(pairs["i"], return_index=True, return_counts=True)
    rank = np.arange(len(pairs)) - np.repeat(first, counts)
    return pairs[rank < NEIGHBOURS]

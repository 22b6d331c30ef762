"""Merges in tests: masks, and blends of plain arrays."""

import numpy as np

from accord.merge.blend import AS_DELTA, F32, Rows, piece_of
from accord.merge.masks import LEVELS, draws, threshold


def mask(key, start, count, density):
    """Which of the elements [start, start + count) DARE keeps."""
    level = threshold(density)
    return np.ones(count, bool) if level == LEVELS else draws(key, start, count) < level


class Plain:
    """A tensor of K deltas as methods see it."""

    def __init__(self, deltas, weights, base=None):
        self.deltas = [np.asarray(d, np.float32) for d in deltas]
        self.base = np.zeros_like(self.deltas[0]) if base is None else np.float32(base)
        self.weights, self.models = tuple(weights), len(deltas)
        self.shape = self.deltas[0].shape
        self.size = self.deltas[0].size

    def products(self):
        rows = np.array([self.base, *self.deltas], np.float64).reshape(self.models + 1, -1)
        return (rows @ rows.T).tolist()


def blended(blend, deltas, base=None, kernel=piece_of, keys=None):
    """theta_base + change of deltas given as arrays; the base is 0 if it is not given."""
    rows = np.array([np.zeros_like(deltas[0]) if base is None else base, *deltas], np.float32)
    count = rows[0].size
    data = rows.reshape(len(rows), -1).view(np.uint8)
    codes = (F32, *[AS_DELTA] * len(deltas))
    out = np.empty(4 * count, np.uint8)
    piece = kernel(blend, keys or tuple(range(len(deltas))))
    piece(Rows(np.ascontiguousarray(data), codes, 0, count), out, F32, 3e38)
    return out.view(np.float32).reshape(np.shape(deltas[0]))

"""One tensor of base and models, read piece by piece, and what methods ask of the whole of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accord.merge.blend import MAGNITUDE, Bytes, Rows, Span, not_finite, widen, within
from accord.merge.headers import TensorInfo
from accord.merge.masks import LEVELS, draws

# Elements read at once: 256 KiB of bf16 from each model stay in the second cache.
PIECE = 1 << 17
_COARSE = 15  # bits of a magnitude that the first histogram leaves to the second
_BINS = 1 << (31 - _COARSE)


class Source(Protocol):
    """A model whose tensors can be read in pieces: a folder of safetensors, or an adapter."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Those of the model, by name."""

    def fill(self, name: str, start: int, count: int, row: Bytes) -> int:
        """Read elements [start, start + count) into `row`; returns its code (`blend.CODES`)."""


@dataclass(frozen=True)
class MergedTensor:
    """One tensor of base and K models (`methods.Tensor`)."""

    name: str
    shape: tuple[int, ...]
    weights: tuple[float, ...]
    base: Source
    others: Sequence[Source]
    keys: tuple[int, ...]  # of the models' masks

    @property
    def models(self) -> int:
        """K."""
        return len(self.others)

    @cached_property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def read(self, start: int, count: int, buffer: Bytes) -> Rows:
        """Elements [start, start + count) of all; `buffer`: [K + 1, 4 * count] or more."""
        sources = (self.base, *self.others)
        codes = [
            source.fill(self.name, start, count, buffer[k]) for k, source in enumerate(sources)
        ]
        return Rows(buffer, tuple(codes), start, count)

    def _pieces(self) -> Iterator[Rows]:
        """All of it, in order: sums do not depend on threads."""
        buffer = np.empty((self.models + 1, 4 * min(PIECE, self.size)), np.uint8)
        for start in range(0, self.size, PIECE):
            yield self.read(start, min(PIECE, self.size - start), buffer)

    def _magnitudes(self) -> Iterator[tuple[Rows, list[NDArray[np.uint32]]]]:
        """Of each delta, as bits: their order is that of the numbers."""
        for rows in self._pieces():
            with np.errstate(all="ignore"):
                base = rows.widened(0)
                deltas = [rows.delta(k, base) for k in range(self.models)]
            yield rows, [delta.view(np.uint32) & MAGNITUDE for delta in deltas]

    def count_bad(self, source: Source) -> int:
        """How many elements of one model are NaN or infinite."""
        row, bad = np.empty(4 * min(PIECE, self.size), np.uint8), 0
        for start in range(0, self.size, PIECE):
            count = min(PIECE, self.size - start)
            bad += not_finite(widen(row, source.fill(self.name, start, count, row), count))
        return bad

    def spans(self, ranks: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
        """The magnitudes of each delta_k at its ranks [first, last) in ascending order.

        Exact, from two histograms: the tensor is read twice and not held. Magnitudes equal to an
        edge are kept by lot, so that the number kept is right in expectation.
        """
        if all(first <= 0 and last >= self.size for first, last in ranks):
            return (Span(),) * self.models
        coarse = np.zeros((self.models, _BINS), np.int64)
        for _, sizes in self._magnitudes():
            for k, size in enumerate(sizes):
                coarse[k] += np.bincount(size >> _COARSE, minlength=_BINS)
        totals = coarse.cumsum(axis=1)
        edges = [(first, last - 1) for first, last in ranks]
        bins = [
            [int(np.searchsorted(totals[k], rank, side="right")) for rank in edge]
            for k, edge in enumerate(edges)
        ]
        fine = np.zeros((self.models, 2, 1 << _COARSE), np.int64)
        for _, sizes in self._magnitudes():
            for k, size in enumerate(sizes):
                top = size >> _COARSE
                for edge, at in enumerate(bins[k]):
                    inside = size[top == at] & ((1 << _COARSE) - 1)
                    fine[k, edge] += np.bincount(inside, minlength=1 << _COARSE)
        found = []
        for k, (first, last) in enumerate(ranks):
            low = self._edge(totals[k], coarse[k], fine[k, 0], bins[k][0], first)
            high = self._edge(totals[k], coarse[k], fine[k, 1], bins[k][1], last - 1)
            found.append(_span(low, high, first, last))
        return tuple(found)

    @staticmethod
    def _edge(
        totals: NDArray[np.int64],
        coarse: NDArray[np.int64],
        fine: NDArray[np.int64],
        at: int,
        rank: int,
    ) -> tuple[int, int, int]:
        """(bits of the magnitude at a rank, how many are smaller, how many equal)."""
        below = int(totals[at] - coarse[at])
        inside = fine.cumsum()
        step = int(np.searchsorted(inside, rank - below, side="right"))
        equal = int(fine[step])
        return (at << _COARSE) | step, below + int(inside[step]) - equal, equal

    def kept_norms(self, spans: Sequence[Span]) -> Sequence[float]:
        """The share of each delta_k's L1 norm that its span keeps."""
        kept, whole = np.zeros((2, self.models))
        for rows, sizes in self._magnitudes():
            for k, size in enumerate(sizes):
                values = size.view(np.float32).astype(np.float64)
                chosen = within(spans[k], size, draws(self.keys[k], rows.start, rows.count))
                kept[k] += values[chosen].sum()
                whole[k] += values.sum()
        shares: list[float] = np.divide(
            kept, whole, out=np.ones_like(kept), where=whole > 0
        ).tolist()
        return shares

    def products(self) -> Sequence[Sequence[float]]:
        """Dot products of theta_base, delta_1 ... delta_K, [K + 1][K + 1], in float64."""
        grams = np.zeros((self.models + 1, self.models + 1))
        for rows in self._pieces():
            with np.errstate(all="ignore"):
                base = rows.widened(0)
                vectors = [base, *(rows.delta(k, base) for k in range(self.models))]
            wide = [vector.astype(np.float64) for vector in vectors]
            for i, one in enumerate(wide):
                for j in range(i + 1):
                    grams[i, j] += (one * wide[j]).sum()
        full: list[list[float]] = (np.tril(grams) + np.tril(grams, -1).T).tolist()
        return full


@dataclass(frozen=True)
class Outline:
    """A tensor as headers tell: what a method makes of its options, before anything is read."""

    tensor: MergedTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.tensor.shape

    @property
    def weights(self) -> tuple[float, ...]:
        """[K]."""
        return self.tensor.weights

    @property
    def models(self) -> int:
        """K."""
        return self.tensor.models

    @property
    def size(self) -> int:
        """Elements."""
        return self.tensor.size

    def spans(self, ranks: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
        """All that there is."""
        return (Span(),) * len(ranks)

    def kept_norms(self, spans: Sequence[Span]) -> Sequence[float]:
        """All of it."""
        return (1.0,) * len(spans)

    def products(self) -> Sequence[Sequence[float]]:
        """As of tensors at right angles."""
        full: list[list[float]] = np.eye(self.models + 1).tolist()
        return full


def _span(low: tuple[int, int, int], high: tuple[int, int, int], first: int, last: int) -> Span:
    """The span from its edges: bits, how many are smaller, how many equal."""
    if low[0] == high[0]:
        level = _lot(last - first, low[2])
        return Span(low[0], low[0], level, level)
    return Span(
        low[0], high[0], _lot(low[1] + low[2] - first, low[2]), _lot(last - high[1], high[2])
    )


def _lot(wanted: int, equal: int) -> int:
    """So many of the 65,536 levels keep `wanted` of `equal` elements."""
    return LEVELS if wanted >= equal else round(LEVELS * wanted / equal)

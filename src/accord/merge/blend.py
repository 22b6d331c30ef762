"""What a merge makes of each element, in numpy: all that methods differ in is a `Blend`.

Unusual: every operation is in float32, in a fixed order, and none depends on another element, so
the bytes depend neither on pieces nor on threads. `kernel` does the same operations in one loop; it
must give the same bytes, and this one takes its place where numba is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accord.merge.masks import LEVELS, draws

F32, F16, BF16, AS_DELTA = 0, 1, 2, 3  # what a row of a piece holds; AS_DELTA: fp32, base taken off
SIZE = (4, 2, 2, 4)  # bytes of an element, by code
CODES = {"F32": F32, "F16": F16, "BF16": BF16}
_STEP = 1 << 15  # elements numpy works on at once: its arrays stay in the second cache
BLOCK = 1024  # elements the kernel works on at once: seven arrays of float32 take 28 KiB
ELECT_NONE, ELECT_UNWEIGHTED, ELECT_WEIGHTED = 0, 1, 2
_CHOICES = {"none": ELECT_NONE, "unweighted": ELECT_UNWEIGHTED, "weighted": ELECT_WEIGHTED}

SIGN = np.uint32(0x80000000)
INFINITE, MAGNITUDE = np.uint32(0x7F800000), np.uint32(0x7FFFFFFF)
_SMALL = np.float32(1e-8)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Span:
    """Magnitudes of a delta that are kept, as the bits of float32: all between the two.

    Of those equal to one of them so many of 65,536, by the draw: a rank among equals is no rank.
    """

    low: int = 0
    high: int = 0x7FFFFFFF
    low_level: int = LEVELS
    high_level: int = LEVELS


@dataclass(frozen=True)
class Ranked:
    """DELLA: chances of being kept rise with the rank of the magnitude in its row."""

    densities: tuple[float, ...]  # [K]
    epsilons: tuple[float, ...]  # [K]: from density - epsilon to density + epsilon
    width: int  # elements of a row


@dataclass(frozen=True)
class Blend:
    """theta = theta_base + scale * (sum of w_k d_k) / divisor + shift * theta_base.

    d_k is the delta of model k with what its mask or `spans` drop set to 0, times `factors`. With
    an election the sum goes over the models whose vote (d_k, or w_k d_k if it is weighted) has the
    sign of the sum of votes; a tie counts as +. `normalize` divides by the sum of their weights.
    """

    weights: tuple[float, ...]  # [K]
    levels: tuple[int, ...]  # [K]: draws below it are kept, of 65,536
    factors: tuple[float, ...]  # [K]
    spans: tuple[Span, ...] | None = None  # [K]
    ranked: Ranked | None = None
    elect: Literal["none", "unweighted", "weighted"] = "none"
    normalize: bool = False
    scale: float = 1.0
    shift: float = 0.0

    @property
    def choice(self) -> int:
        """`elect` as a number."""
        return _CHOICES[self.elect]

    @property
    def divisor(self) -> np.float32:
        """The sum of the weights, or 1 where it is 0: what `normalize` divides by."""
        total = np.float32(0)
        for weight in self.weights:
            total = total + np.float32(weight)
        return total if abs(total) >= _SMALL else np.float32(1)


@dataclass(frozen=True)
class Rows:
    """Elements [start, start + count) of one tensor of base and K models, as they are stored."""

    data: Bytes | Sequence[Bytes]  # [K + 1, stride]
    codes: tuple[int, ...]  # [K + 1]
    start: int
    count: int

    def part(self, at: int, count: int) -> "Rows":
        """Elements [at, at + count) of these."""
        sizes = [SIZE[code] for code in self.codes]
        rows = zip(self.data, sizes, strict=False)  # a buffer may have more rows
        data = [row[at * size : (at + count) * size] for row, size in rows]
        return Rows(data, self.codes, self.start + at, count)

    def widened(self, row: int) -> Floats:
        """A row in float32: a copy, or the row itself if it is float32."""
        return widen(self.data[row], self.codes[row], self.count)

    def delta(self, k: int, base: Floats) -> Floats:
        """theta_k - theta_base; not to be written to."""
        values = self.widened(k + 1)
        return values if self.codes[k + 1] == AS_DELTA else values - base


Piece = Callable[[Rows, Bytes, int, float], NDArray[np.int64]]
"""(inputs, output, its code, its largest finite number) -> [K + 2]: how many are NaN or infinite in
base and models, and NaN or too large in the result. The output is written to. A piece begins at a
multiple of 4 elements, or of whole rows where ranks are wanted."""


def widen(row: Bytes, code: int, count: int) -> Floats:
    """The first `count` elements of a row in float32."""
    if code == BF16:
        bits = row[: 2 * count].view(np.uint16).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32)
    if code == F16:
        return row[: 2 * count].view(np.float16).astype(np.float32)
    return row[: 4 * count].view(np.float32)


def narrow(values: Floats, code: int, out: Bytes) -> None:
    """The only rounding: to the nearest, ties to even; one NaN for all. Overwrites `values`."""
    bits = values.view(np.uint32)
    nan = (bits & MAGNITUDE) > INFINITE
    if nan.any():
        bits[nan] = 0x7FC00000
    if code == BF16:
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
        out[: 2 * len(values)].view(np.uint16)[:] = rounded
    elif code == F16:
        out[: 2 * len(values)].view(np.float16)[:] = values
        out[: 2 * len(values)].view(np.uint16)[nan] = 0x7E00
    else:
        out[: 4 * len(values)].view(np.float32)[:] = values


def not_finite(values: Floats) -> int:
    """How many are NaN or infinite."""
    # A sum is finite only if all terms are; it may overflow, so then they are counted.
    if np.isfinite(values.sum()):
        return 0
    return int(np.count_nonzero((values.view(np.uint32) & MAGNITUDE) >= INFINITE))


def piece_of(blend: Blend, keys: Sequence[int]) -> Piece:
    """What merges the pieces of a tensor; `keys`: of the models' masks (`masks.mask_key`), [K]."""

    def piece(rows: Rows, out: Bytes, out_code: int, largest: float) -> NDArray[np.int64]:
        found = np.zeros(len(blend.weights) + 2, np.int64)
        step = rows.count if blend.ranked else _STEP
        with np.errstate(all="ignore"):
            for at in range(0, rows.count, step):
                part = rows.part(at, min(step, rows.count - at))
                values = _merged(blend, part, keys, found)
                found[-1] += _too_large(values, np.float32(largest))
                narrow(values, out_code, out[at * SIZE[out_code] :])
        return found

    return piece


def _merged(blend: Blend, rows: Rows, keys: Sequence[int], found: NDArray[np.int64]) -> Floats:
    """theta; counts what is NaN or infinite in `found`."""
    base = rows.widened(0)
    bad = not_finite(base)
    found[0] += bad
    finite = not bad
    plus, minus, votes, weight_plus, weight_minus = np.zeros((5, rows.count), np.float32)
    for k in range(len(blend.weights)):
        given = rows.widened(k + 1)
        delta = given.copy() if rows.codes[k + 1] == AS_DELTA else given - base
        # Of finite numbers, too, a difference may overflow.
        tidy = bool(np.isfinite(delta.sum()))
        if not tidy:
            found[k + 1] += not_finite(given)
        finite &= tidy
        delta = _dropped(blend, k, delta, keys[k], rows, tidy)
        weight = np.float32(blend.weights[k])
        term = weight * delta
        if blend.elect == "none":
            plus += term
            continue
        vote = delta if blend.elect == "unweighted" else term
        votes += vote
        high, low = _by_sign(term, vote, float(weight) if blend.elect == "unweighted" else 1.0)
        plus += high
        minus += low
        if blend.normalize:
            weight_plus += (vote > 0) * weight
            weight_minus += (vote < 0) * weight
    positive = votes >= 0  # s; a tie counts as +
    change = plus if blend.elect == "none" else _chosen(positive, plus, minus, finite)
    if blend.normalize:
        change /= _divisor(blend, positive, weight_plus, weight_minus)
    change *= np.float32(blend.scale)
    shift = np.float32(blend.shift)
    if shift != 0:
        change += shift * base
    values = base + change
    # Not where it is 0: -0.0 + 0.0 would lose the sign, and the base must stay bit for bit.
    if (base.view(np.uint32) == SIGN).any():
        return np.where(change != 0, values, base)
    return values


def _by_sign(term: Floats, vote: Floats, sign: float) -> tuple[Floats, Floats]:
    """The terms whose vote is positive, and those whose vote is negative; 0 elsewhere.

    `sign`: positive where a vote has the sign of its term, negative where it has the other.
    """
    zero = np.float32(0)
    if sign and np.isfinite(term.sum()):  # three times as fast
        high, low = np.fmax(term, zero), np.fmin(term, zero)
        return (high, low) if sign > 0 else (low, high)
    return np.where(vote > 0, term, zero), np.where(vote < 0, term, zero)


def _chosen(positive: NDArray[np.bool_], plus: Floats, minus: Floats, finite: bool) -> Floats:
    """The sum of the elected sign."""
    # Three times as fast, where nothing is infinite, nor has become so.
    if finite and np.isfinite(plus.max(initial=0)) and np.isfinite(minus.min(initial=0)):
        plus *= positive
        minus *= ~positive
        plus += minus
        return plus
    return np.where(positive, plus, minus)


def _too_large(values: Floats, largest: np.float32) -> int:
    """How many magnitudes are above it, or NaN."""
    if values.max(initial=0) <= largest and values.min(initial=0) >= -largest:
        return 0
    return int(np.count_nonzero(~(np.abs(values) <= largest)))


def _divisor(
    blend: Blend, positive: NDArray[np.bool_], weight_plus: Floats, weight_minus: Floats
) -> Any:
    if blend.elect == "none":
        return blend.divisor
    divisor = np.where(positive, weight_plus, weight_minus)
    divisor[np.abs(divisor) < _SMALL] = 1  # nobody agrees: the change is 0 already
    return divisor


def _dropped(blend: Blend, k: int, delta: Floats, key: int, rows: Rows, finite: bool) -> Floats:
    """d_k: `delta` with what is dropped set to 0, and the rest rescaled."""
    level, factor = blend.levels[k], np.float32(blend.factors[k])
    drawn = None
    if level < LEVELS or blend.spans or blend.ranked:
        drawn = draws(key, rows.start, rows.count)
    if drawn is None:
        return delta * factor
    if blend.ranked:
        return _magprune(blend.ranked, k, delta, drawn)
    kept = drawn < level  # DARE
    if blend.spans:
        kept &= within(blend.spans[k], delta.view(np.uint32) & MAGNITUDE, drawn)
    if finite:
        delta *= kept  # five times as fast; the sign of a 0 is lost in the sums
        delta *= factor
        return delta
    return np.where(kept, delta * factor, np.float32(0))


def within(span: Span, size: NDArray[np.uint32], drawn: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Which magnitudes, given as bits, a span keeps."""
    kept = (size > span.low) & (size < span.high)
    kept |= (size == span.low) & (drawn < span.low_level)
    kept |= (size == span.high) & (drawn < span.high_level)
    return kept


def _magprune(ranked: Ranked, k: int, delta: Floats, drawn: NDArray[np.uint16]) -> Floats:
    """DELLA's MAGPRUNE (arXiv 2406.11617, section 3.1): p rises linearly with the rank."""
    table = np.abs(delta).reshape(-1, ranked.width)
    rank = table.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable").astype(np.float32)
    share = rank / np.float32(max(ranked.width - 1, 1))
    density, epsilon = np.float32(ranked.densities[k]), np.float32(ranked.epsilons[k])
    level = np.rint((density - epsilon + 2 * epsilon * share) * np.float32(LEVELS)).reshape(-1)
    level = np.clip(level, 1, LEVELS).astype(np.float32)
    return np.where(drawn < level, delta * (np.float32(LEVELS) / level), np.float32(0))

"""`blend.piece_of` as one fused loop, for numba: the same operations, element by element.

Unusual: written for a compiler that sees pointers only. A piece is worked on in blocks that stay in
the first cache; where bits are looked at as another type, the same address comes in twice. Nothing
here may be reordered, contracted or approximated: the bytes are those of the numpy version, and
`native` compares the two before it trusts a compiled kernel.
"""

# ruff: noqa: ANN001, ANN202
# mypy: ignore-errors
# Types are those of SIGNATURE; numba reads no hints.

import numpy as np
from numba import njit, types

from accord.merge.blend import AS_DELTA, BF16, BLOCK, ELECT_NONE, ELECT_UNWEIGHTED, F16, F32
from accord.merge.masks import LEVELS

_POINTER = types.CPointer
SIGNATURE = (
    _POINTER(types.uint16),  # the inputs, a row of `stride` bytes each, base first
    _POINTER(types.uint32),  # the same address
    types.int64,  # stride
    _POINTER(types.int64),  # codes of the inputs' dtypes
    _POINTER(types.uint16),  # the output
    _POINTER(types.uint32),  # the same address
    types.int64,  # code of its dtype
    types.int64,  # elements of the piece
    types.int64,  # index of its first element in the tensor; a multiple of 4
    types.int64,  # models, K
    _POINTER(types.uint64),  # keys of the masks [K]
    _POINTER(types.int64),  # levels [K]
    _POINTER(types.float32),  # factors [K], then weights [K]
    _POINTER(types.uint32),  # lows [K], then highs [K]: magnitudes kept, as bits
    _POINTER(types.int64),  # levels for magnitudes equal to the low one [K], then to the high one
    _POINTER(types.int64),  # trim, elect, normalize
    _POINTER(types.float32),  # divisor, scale, shift, largest
    _POINTER(types.float32),  # scratch, 7 blocks
    _POINTER(types.uint64),  # the same address
    _POINTER(types.uint16),  # the same address
    _POINTER(types.int64),  # found: NaN or infinite of each input [K + 1], too large ones
)

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_U1, _S13, _S16 = np.uint32(1), np.uint32(13), np.uint32(16)
_MAGNITUDE, _SIGN = np.uint32(0x7FFFFFFF), np.uint32(0x80000000)
_INFINITE, _NAN = np.uint32(0x7F800000), np.uint32(0x7FC00000)
_HALF_SIGN, _HALF_REST, _HALF_INF = np.uint32(0x8000), np.uint32(0x7FFF), np.uint32(0x7C00)
_ZERO, _ONE, _SMALL = np.float32(0), np.float32(1), np.float32(1e-8)

# Where in the scratch space what is kept, in blocks; the first one holds draws.
_BASE, _VOTES, _PLUS, _MINUS, _WEIGHT_PLUS, _WEIGHT_MINUS = (k * BLOCK for k in range(1, 7))


@njit
def _bits(value):
    return np.float32(value).view(np.uint32)


@njit
def _float(bits):
    return np.uint32(bits).view(np.float32)


@njit
def _bf16(rows16, rows32, at):
    return _float(np.uint32(rows16[at]) << _S16)


@njit
def _f16(rows16, rows32, at):
    half = np.uint32(rows16[at])
    rest = np.uint32(half & _HALF_REST)
    # The exponent is rebiased by a multiplication, which is exact for subnormals too.
    bits = _bits(_float(rest << _S13) * np.float32(2.0**112))
    bits = np.uint32((rest << _S13) | _INFINITE) if rest >= _HALF_INF else bits
    return _float(bits | ((half & _HALF_SIGN) << _S16))


@njit
def _f32(rows16, rows32, at):
    return _float(rows32[at])


@njit
def _magnitude(value):
    return np.uint32(_bits(value) & _MAGNITUDE)


@njit
def _larger(largest, value):
    size = _magnitude(value)
    return size if size > largest else largest


def _widening(read):
    """Base values to fp32."""

    @njit
    def widen(rows16, rows32, at, f, n):
        """Returns the largest magnitude, as bits."""
        largest = np.uint32(0)
        for i in range(n):
            value = read(rows16, rows32, at + i)
            f[_BASE + i] = value
            largest = _larger(largest, value)
        return largest

    return widen


def _folding(read, as_delta, part):
    """One model's part: delta, drop, rescale, and its votes and sums, in one pass.

    `part`: "sum" without election or trim, "vote" with an election, "all" with whatever there is.
    A choice within the loop keeps the compiler from vectorising it.
    """
    elects, general = part != "sum", part == "all"

    @njit
    def fold(
        rows16, rows32, at, draws, level, factor, trim, low, high, low_level, high_level,
        elect, w, f, n,
    ):  # fmt: skip
        """Returns the largest magnitude of the inputs, as bits."""
        by = _ONE if elect == ELECT_UNWEIGHTED else w
        below, below_low, below_high = np.uint32(level), np.uint32(low_level), np.uint32(high_level)
        largest = np.uint32(0)
        for i in range(n):
            value = read(rows16, rows32, at + i)
            largest = _larger(largest, value)
            d = value if as_delta else value - f[_BASE + i]
            drawn = np.uint32(draws[i])
            kept = drawn < below
            if general:
                size = _magnitude(d)
                within = (size > low) & (size < high)
                within |= (size == low) & (drawn < below_low)
                kept &= within | ((size == high) & (drawn < below_high)) | (not trim)
            d = d * factor if kept else _ZERO  # d_k
            term, up = w * d, f[_PLUS + i]
            if elects:
                vote, down = by * d, f[_MINUS + i]
                f[_VOTES + i] = f[_VOTES + i] + vote
                agrees = vote > _ZERO
                if general:
                    agrees |= elect == ELECT_NONE
                f[_PLUS + i] = up + (term if agrees else _ZERO)
                f[_MINUS + i] = down + (term if vote < _ZERO else _ZERO)
            else:
                f[_PLUS + i] = up + term
            if general:
                more, less = f[_WEIGHT_PLUS + i], f[_WEIGHT_MINUS + i]
                f[_WEIGHT_PLUS + i] = more + (w if vote > _ZERO else _ZERO)
                f[_WEIGHT_MINUS + i] = less + (w if vote < _ZERO else _ZERO)
        return largest

    return fold


def _folding_any(part):
    bf16, f16 = _folding(_bf16, False, part), _folding(_f16, False, part)
    f32, delta = _folding(_f32, False, part), _folding(_f32, True, part)

    @njit
    def fold(
        code, rows16, rows32, at, draws, level, factor, trim, low, high, low_level, high_level,
        elect, w, f, n,
    ):  # fmt: skip
        if code == BF16:
            return bf16(
                rows16, rows32, at, draws, level, factor, trim, low, high, low_level, high_level,
                elect, w, f, n,
            )  # fmt: skip
        if code == F16:
            return f16(
                rows16, rows32, at, draws, level, factor, trim, low, high, low_level, high_level,
                elect, w, f, n,
            )  # fmt: skip
        if code == F32:
            return f32(
                rows16, rows32, at, draws, level, factor, trim, low, high, low_level, high_level,
                elect, w, f, n,
            )  # fmt: skip
        return delta(
            rows16, rows32, at, draws, level, factor, trim, low, high, low_level, high_level,
            elect, w, f, n,
        )  # fmt: skip

    return fold


_widen_bf16, _widen_f16, _widen_f32 = _widening(_bf16), _widening(_f16), _widening(_f32)
_sum, _vote, _all = _folding_any("sum"), _folding_any("vote"), _folding_any("all")


@njit
def _bad(code, rows16, rows32, at, n):
    """How many are NaN or infinite."""
    bad = np.int64(0)
    for i in range(n):
        if code == BF16:
            value = _bf16(rows16, rows32, at + i)
        elif code == F16:
            value = _f16(rows16, rows32, at + i)
        else:
            value = _f32(rows16, rows32, at + i)
        bad += np.int64(_magnitude(value) >= _INFINITE)
    return bad


@njit
def _draw(key, first, words, n):
    """Words first, first + 1, ... of splitmix64: four draws each (`masks`)."""
    for j in range(n):
        z = key + np.uint64(first + j + 1) * _GAMMA
        z = (z ^ (z >> _S30)) * _FIRST
        z = (z ^ (z >> _S27)) * _SECOND
        words[j] = z ^ (z >> _S31)


@njit
def _choose(f, n):
    """The sum of the elected sign; a tie counts as +."""
    for i in range(n):
        up, down, votes = f[_PLUS + i], f[_MINUS + i], f[_VOTES + i]
        f[_PLUS + i] = up if votes >= _ZERO else down


@njit
def _divide(elect, divisor, f, n):
    """By the weights of those that agree."""
    if elect == ELECT_NONE:
        for i in range(n):
            f[_PLUS + i] = f[_PLUS + i] / divisor
        return
    for i in range(n):
        up, down, votes = f[_WEIGHT_PLUS + i], f[_WEIGHT_MINUS + i], f[_VOTES + i]
        by = up if votes >= _ZERO else down
        f[_PLUS + i] = f[_PLUS + i] / (_ONE if abs(by) < _SMALL else by)


@njit
def _settle(scale, shift, f, n):
    """theta = theta_base + change; returns the largest magnitude, as bits."""
    largest = np.uint32(0)
    for i in range(n):
        base = f[_BASE + i]
        change = f[_PLUS + i] * scale
        change = change + shift * base if shift != _ZERO else change
        # Not where it is 0: -0.0 + 0.0 would lose the sign.
        value = base + change if change != _ZERO else base
        value = value if value == value else _float(_NAN)  # one NaN for all
        f[_PLUS + i] = value
        largest = _larger(largest, value)
    return largest


@njit
def _over(largest, f, n):
    """How many are too large for the output's dtype, or NaN."""
    over = np.int64(0)
    for i in range(n):
        over += np.int64(not abs(f[_PLUS + i]) <= largest)
    return over


@njit
def _half(value):
    """The bits of float16: Giesen's method, with the processor's own rounding for subnormals."""
    bits = _bits(value)
    rest = np.uint32(bits & _MAGNITUDE)
    small = np.uint32(_bits(_float(rest) + np.float32(0.5)) - np.uint32(0x3F000000))
    half = np.uint32((rest + np.uint32(0xC8000FFF) + ((rest >> _S13) & _U1)) >> _S13)
    half = small if rest < np.uint32(0x38800000) else half
    half = _HALF_INF if rest >= np.uint32(0x477FF000) else half
    half = np.uint32(0x7E00) if rest > _INFINITE else half
    return np.uint16(half | ((bits & _SIGN) >> _S16))


@njit
def _narrow(code, f, out16, out32, to, n):
    """fp32 to the output's dtype, to the nearest, ties to even."""
    if code == BF16:
        for i in range(n):
            bits = _bits(f[_PLUS + i])
            odd = np.uint32((bits >> _S16) & _U1)
            out16[to + i] = np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> _S16)
    elif code == F16:
        for i in range(n):
            out16[to + i] = _half(f[_PLUS + i])
    else:
        for i in range(n):
            out32[to + i] = _bits(f[_PLUS + i])


def blend(
    rows16, rows32, stride, codes, out16, out32, out_code, count, start, models, keys, levels,
    factors_weights, lows_highs, tie_levels, choices, numbers, f, words, draws, found,
) -> None:  # fmt: skip
    """Merge one piece; see SIGNATURE."""
    trim, elect, normalize = choices[0], choices[1], choices[2]
    for at in range(0, count, BLOCK):
        n = min(BLOCK, count - at)
        if codes[0] == BF16:
            largest = _widen_bf16(rows16, rows32, at, f, n)
        elif codes[0] == F16:
            largest = _widen_f16(rows16, rows32, at, f, n)
        else:
            largest = _widen_f32(rows16, rows32, at, f, n)
        if largest >= _INFINITE:
            found[0] += _bad(codes[0], rows16, rows32, at, n)
        for i in range(_VOTES, 7 * BLOCK if normalize else 5 * BLOCK):
            f[i] = _ZERO
        for k in range(models):
            code, level, factor = codes[k + 1], levels[k], factors_weights[k]
            w, low, high = factors_weights[models + k], lows_highs[k], lows_highs[models + k]
            low_level, high_level = tie_levels[k], tie_levels[models + k]
            skip = (k + 1) * stride // (4 if code in (F32, AS_DELTA) else 2) + at
            if level < LEVELS or trim:
                _draw(keys[k], (start + at) // 4, words, (n + 3) // 4)
            if elect == ELECT_NONE and not trim:
                largest = _sum(
                    code, rows16, rows32, skip, draws, level, factor, trim, low, high, low_level,
                    high_level, elect, w, f, n,
                )  # fmt: skip
            elif elect != ELECT_NONE and not trim and not normalize:
                largest = _vote(
                    code, rows16, rows32, skip, draws, level, factor, trim, low, high, low_level,
                    high_level, elect, w, f, n,
                )  # fmt: skip
            else:
                largest = _all(
                    code, rows16, rows32, skip, draws, level, factor, trim, low, high, low_level,
                    high_level, elect, w, f, n,
                )  # fmt: skip
            if largest >= _INFINITE:
                found[k + 1] += _bad(code, rows16, rows32, skip, n)
        if elect != ELECT_NONE:
            _choose(f, n)
        if normalize:
            _divide(elect, numbers[0], f, n)
        if not _settle(numbers[1], numbers[2], f, n) <= _bits(numbers[3]):
            found[models + 1] += _over(numbers[3], f, n)
        _narrow(out_code, f, out16, out32, at, n)

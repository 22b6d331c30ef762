"""What is noise: intervals, tests and detectable differences, with questions as the unit.

The wordings of one question share their passages and their original answer, so their pairs are not
independent: whole questions are drawn, with all their pairs (a cluster bootstrap; Cameron & Miller
2015). A draw is a vector of counts, how often each question occurs, so a resampled score is
`combine(counts @ sums)` with the sums of each question. The same seed draws the same questions for
every model: their differences are paired. Memory does not grow with the number of resamples.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Combine = Callable[[Floats], Floats]  # summed statistics (..., k) to scores (..., m)

LEVEL = 0.95
POWER = 0.80
_NORMAL = NormalDist()
_BLOCK = 2**18  # counts held at once: 2 MB
_LEAST = 16  # draws held at once at the least: a product with one row is slow


def ratio(sums: Floats) -> Floats:
    """Mean scores: sums of scores in all columns but the last, over the number of pairs in it.

    Shape (..., m + 1) to (..., m).
    """
    return sums[..., :-1] / sums[..., -1:]


@dataclass(frozen=True)
class Estimates:
    """Scores or differences (m,), the ends of their 95 % intervals and standard errors (m,).

    NaN where there is none. `clusters` (m,): the number of questions behind each.
    """

    values: Floats
    low: Floats
    high: Floats
    errors: Floats
    clusters: NDArray[np.intp]

    def value(self, index: int) -> float | None:
        """The estimate, None where nothing was scored."""
        return None if math.isnan(self.values[index]) else float(self.values[index])

    def interval(self, index: int) -> list[float] | None:
        """The 95 % interval [lo, hi]; None where there is none."""
        if math.isnan(self.low[index]):
            return None
        return [float(self.low[index]), float(self.high[index])]


def bootstrap(
    sums: Floats,
    combine: Combine,
    *,
    clusters: Sequence[int] | NDArray[np.intp] | None = None,
    resamples: int,
    seed: int,
    minus: Floats | None = None,
) -> Estimates:
    """Scores of one model, or with `minus` the paired differences of two, with intervals.

    `sums` (questions, k): each question's summed scores or statistics, in an order of the questions
    that does not depend on the files. `combine` maps sums (..., k) to scores (..., m), NaN where
    nothing was scored. `clusters` (m,): how many questions have anything to say on each score;
    by default all.
    """
    given = (sums,) if minus is None else (sums, minus)
    values = _difference([combine(own.sum(axis=0)) for own in given])
    total, squares, count = np.zeros((3, len(values)))
    for counts in _counts(len(sums), resamples, seed, width=max(sums.shape)):
        departures = _difference([combine(counts @ own) for own in given]) - values
        total += np.nansum(departures, axis=0)
        squares += np.nansum(departures**2, axis=0)
        count += (~np.isnan(departures)).sum(axis=0)
    sizes = np.full(len(values), len(sums)) if clusters is None else np.asarray(clusters, np.intp)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (squares - total**2 / count) / (count - 1)
        # The variance of a resampled mean has n where n - 1 belongs.
        errors = np.sqrt(np.maximum(variance, 0.0) * sizes / (sizes - 1))
    errors[(sizes < 2) | np.isnan(values)] = np.nan
    bounds = (0.0, 1.0) if minus is None else (-1.0, 1.0)
    limits = [ends(v, e, n, bounds) for v, e, n in zip(values, errors, sizes, strict=True)]
    low, high = np.array(limits).reshape(-1, 2).T
    return Estimates(values, low, high, errors, sizes)


def _difference(rows: Sequence[Floats]) -> Floats:
    return rows[0] if len(rows) == 1 else rows[0] - rows[1]


def _counts(clusters: int, resamples: int, seed: int, *, width: int = 1) -> Iterator[Floats]:
    """How often each question is drawn, blocks (b, clusters): `clusters` draws with replacement.

    The draws come one after the other from one stream, so the blocks' size does not matter.
    `width`: numbers that are held for each draw.
    """
    random = np.random.default_rng(seed)
    block = max(_LEAST, _BLOCK // max(clusters, width, 1))
    for start in range(0, resamples, block):
        counts = np.empty((min(block, resamples - start), clusters))
        for row in counts:
            row[:] = np.bincount(random.integers(clusters, size=clusters), minlength=clusters)
        yield counts


def interval(
    estimate: float,
    replicates: Floats,
    clusters: int,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> list[float] | None:
    """The 95 % interval [lo, hi] of an estimate from replicates, made as `bootstrap` does.

    None for fewer than 2 questions, or where no replicate was scored.
    """
    known = replicates[~np.isnan(replicates)]
    if clusters < 2 or len(known) < 2:
        return None
    error = float(np.std(known, ddof=1)) * math.sqrt(clusters / (clusters - 1))
    low, high = ends(estimate, error, clusters, bounds)
    return None if math.isnan(low) else [low, high]


def ends(
    estimate: float, error: float, clusters: int, bounds: tuple[float, float]
) -> tuple[float, float]:
    """The ends of the 95 % interval of a score in [0, 1] or of a difference in [-1, 1]; NaN: none.

    Student's t with the bootstrap's standard error; of a score on the scale of log-odds, where the
    interval cannot leave [0, 1] and follows the skewness of rates near its ends. With 20 questions
    and rates of .1 to .85, wordings much alike, that covers in 95 % and more of simulated tables,
    where percentiles and the plain t interval fall to 88 % (docs/results/intervals.md).

    An error of 0 would make an interval without width, and claim certainty. There it ends at
    r = 1 - (alpha / 2)^(1/n) of the way to each bound: if a share p of the questions differs from
    those seen, n questions show none of it with probability (1 - p)^n, and they can move the mean
    by p times the way to the bound. For a score of 0 or 1 that is the exact binomial limit with
    questions as trials (Clopper & Pearson 1934).
    """
    lowest, highest = bounds
    if math.isnan(error) or math.isnan(estimate):
        return math.nan, math.nan
    tail = (1 - LEVEL) / 2
    if error < 1e-9:
        reach = 1 - tail ** (1 / clusters)
        return estimate - reach * (estimate - lowest), estimate + reach * (highest - estimate)
    t = student(1 - tail, clusters - 1)
    if lowest < 0 or not 0 < estimate < 1:
        return max(lowest, estimate - t * error), min(highest, estimate + t * error)
    # The standard error of the log-odds by the delta method.
    centre, reach = math.log(estimate / (1 - estimate)), t * error / (estimate * (1 - estimate))
    return _expit(centre - reach), _expit(centre + reach)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def sign_flip(
    first: Floats, second: Floats, combine: Combine, *, resamples: int, seed: int
) -> Floats:
    """Two-sided p (m,) of the paired difference of two models: their labels swapped by question.

    `first` and `second` (questions, k). Under the null hypothesis that the models are
    interchangeable, each question's sums may be swapped between them (Fisher's randomisation; for
    scores that are no means, such as BLEU, Riezler & Maxwell 2005). Where all 2^n swaps are no more
    than `resamples`, p is the exact share of those at least as extreme. Else swaps are drawn, and
    p = (1 + more extreme + half of the equally extreme) / (1 + resamples), the mid-p of Lancaster
    (1961): rates over few questions have many ties, and counted in full they reject a true null
    too rarely.
    1 where the models do not differ, NaN where nothing was scored.
    """
    centre, half = (first + second).sum(axis=0) / 2, (first - second) / 2

    def difference(signs: Floats) -> Floats:
        moved = signs @ half
        return np.abs(combine(centre + moved) - combine(centre - moved))

    observed = difference(np.ones((1, len(half))))[0]
    exact = len(half) < 31 and 2 ** len(half) <= resamples
    more, equal = np.zeros((2, len(observed)))
    total = 2 ** len(half) if exact else resamples
    for signs in _signs(len(half), total, seed, exact, width=max(half.shape)):
        # Two sums of the same numbers in another order may differ by the last bits.
        excess = difference(signs) - observed
        more += (excess > 1e-12).sum(axis=0)
        equal += (np.abs(excess) <= 1e-12).sum(axis=0)
    p = (more + equal) / total if exact else (1 + more + equal / 2) / (1 + total)
    p = np.where(observed <= 1e-12, 1.0, np.minimum(p, 1.0))
    return np.where(np.isnan(observed), np.nan, p)


def _signs(
    questions: int, rows: int, seed: int, exact: bool, *, width: int = 1
) -> Iterator[Floats]:
    """Rows of -1 and +1 in blocks (b, questions): all of them, or drawn at random."""
    random = np.random.default_rng([seed, 1])  # not the stream of the bootstrap
    # Rows by fours: whole words of the stream, so the blocks' size does not matter.
    block = max(_LEAST, _BLOCK // max(questions, width, 1) // 4 * 4)
    size = -(-questions // 8)
    for start in range(0, rows, block):
        stop = min(start + block, rows)
        if exact:
            bits: NDArray[Any] = np.arange(start, stop)[:, None] >> np.arange(questions) & 1
        else:
            drawn = np.frombuffer(random.bytes((stop - start) * size), np.uint8)
            bits = np.unpackbits(drawn.reshape(-1, size), axis=1, count=questions)
        yield bits.astype(np.float64) * 2 - 1


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the chance of any false claim among them (Holm 1979)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = least
    return adjusted


def detectable(
    error: float, clusters: int, values: tuple[float, float], *, tests: int = 1
) -> float | None:
    """The smallest true difference of two scores that is found in 80 % of samples, two-sided 5 %.

    Bloom's (1995) multiple of the standard error of the paired difference, with Student quantiles
    for n questions, and with what changes if there is a difference d: a score in [0, 1] that moves
    towards the middle varies more (as p (1 - p); the worst direction is taken), and the sign-flip
    test then counts d itself as spread. So d = t_{1-alpha/2} sqrt(e(d)^2 + d^2 / n) + t_.8 e(d),
    solved by iteration. `values`: the two scores. `tests` > 1: found even as the first step of
    Holm's procedure over so many, alpha = 5 % / tests. None where it cannot be known: no standard
    error, or one of 0, or no difference in [0, 1] is large enough.
    """
    if clusters < 2 or math.isnan(error) or error == 0:
        return None
    reject = student(1 - (1 - LEVEL) / tests / 2, clusters - 1)
    find = student(POWER, clusters - 1)
    size = (reject + find) * error
    for _ in range(100):
        moved = error * _growth(values, size)
        size = min(1.0, reject * math.sqrt(moved**2 + size**2 / clusters) + find * moved)
    return None if size >= 1 else size


def _growth(values: tuple[float, float], size: float) -> float:
    """How much the standard error grows at most if one of two scores moves by up to `size`.

    So the growth never falls as `size` grows, and the iteration that asks for it converges.
    """

    def spread(p: float) -> float:
        return p * (1 - p)

    now = spread(values[0]) + spread(values[1])
    moved = [spread(min(max(0.5, p - size), p + size)) - spread(p) for p in values]
    return math.sqrt(1 + max(moved) / now) if now > 0 else 1.0


def student(p: float, df: int) -> float:
    """Quantile of Student's t; at p = .975 within 0.2 % for df = 3, exact for df = 1 and 2.

    Fisher's expansion in 1/df (Abramowitz & Stegun 26.7.5); the core does without scipy.
    """
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    if df == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z = _NORMAL.inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / df ** (i + 1) for i, term in enumerate(terms))


def signatures(resamples: int, seed: int) -> dict[str, Any]:
    """How the intervals, tests and detectable differences were made."""
    return {
        "bootstrap": {
            "resamples": resamples,
            "seed": seed,
            "cluster": "original question",
            "interval": "95 %, Student t with the bootstrap's error; scores as log-odds",
        },
        "test": "sign-flip by original question, two-sided mid-p; Holm over metrics and kinds",
        "detectable": "80 % power, two-sided 5 % after Holm, paired by question",
    }

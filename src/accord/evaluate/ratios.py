"""Shares: ratios of two means over the same questions, with intervals that stay honest.

A share of the inconsistency has the inconsistency as its divisor, which may be near 0 and is as
uncertain as the rest. Then resampled ratios spread without end, and a standard error of them means
little. What is unusual here: the interval is made of the ratios that a t test does not reject
(Fieller 1954). Where the divisor itself may be 0 there is no such interval, and none is given.
"""

import math
from typing import NamedTuple

import numpy as np

from accord.evaluate.statistics import LEVEL, Floats, student

_NOTHING = 1e-9  # a divisor or a spread below it is rounding


class Share(NamedTuple):
    """A ratio and the ends of its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float

    @property
    def ends(self) -> list[float] | None:
        """[lo, hi], None where there is no interval."""
        return None if math.isnan(self.low) else [self.low, self.high]

    @property
    def number(self) -> float | None:
        """The ratio, None where the divisor is 0."""
        return None if math.isnan(self.value) else self.value


NONE = Share(math.nan, math.nan, math.nan)


def share(parts: Floats, wholes: Floats, lowest: float) -> Share:
    """sum(parts) / sum(wholes) over n questions, with its interval in [`lowest`, 1].

    `parts`, `wholes` (n,): the sums of each question that has anything to say. The ratio r is
    rejected where the mean of parts - r wholes differs from 0 by Student's t over questions; those
    that are not make the interval of Fieller. It is none where the t test does not tell
    sum(wholes) from 0: then every ratio, or all but some in the middle, would be in it.
    An interval without width would claim certainty: it ends where the m questions with
    anything to divide do not exclude it, as `statistics` does for scores.
    """
    n = len(wholes)
    if n == 0 or abs(wholes.sum()) < _NOTHING * n:
        return NONE
    value = float(parts.sum() / wholes.sum())
    tail = (1 - LEVEL) / 2
    low, high = _fieller(parts, wholes, student(1 - tail, n - 1)) if n > 1 else (math.nan,) * 2
    if math.isnan(low):
        return Share(value, low, high)
    if float(np.abs(parts - value * wholes).max()) < _NOTHING:
        reach = 1 - tail ** (1 / int((np.abs(wholes) > _NOTHING).sum()))
        low, high = value - reach * (value - lowest), value + reach * (1 - value)
    return Share(value, max(lowest, min(low, value)), min(1.0, max(high, value)))


def _fieller(parts: Floats, wholes: Floats, t: float) -> tuple[float, float]:
    """The roots r of mean(x - r y)^2 = t^2 var(x - r y) / n; NaN where mean(y) may be 0."""
    n = len(wholes)
    x, y = parts.mean(), wholes.mean()
    (xx, xy), (_, yy) = np.cov(parts, wholes) * t**2 / n
    a, b, c = y**2 - yy, x * y - xy, x**2 - xx
    if a <= 0:
        return math.nan, math.nan
    root = math.sqrt(max(0.0, b**2 - a * c))  # below 0 by rounding alone
    return float((b - root) / a), float((b + root) / a)

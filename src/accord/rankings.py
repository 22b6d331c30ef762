"""How alike two rankings of passages are: pure functions on two sequences of ids, best first.

An id that occurs twice in a ranking counts at its better place. Two empty rankings share nothing
and lack nothing: they cannot be compared, and the score is NaN. One empty ranking agrees with no
other: 0.
"""

import math
from collections.abc import Sequence

PERSISTENCE = 0.9  # p of the paper's experiments: 10 ranks hold 86 % of the weight


def jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    """Shared ids over all ids, in [0, 1]; blind to order. NaN for two empty rankings."""
    left, right = set(a), set(b)
    either = len(left | right)
    return len(left & right) / either if either else math.nan


def same_first(a: Sequence[str], b: Sequence[str]) -> float:
    """1 where the first id is the same, else 0. NaN for two empty rankings."""
    if not a and not b:
        return math.nan
    return float(list(a[:1]) == list(b[:1]))


def same_set(a: Sequence[str], b: Sequence[str]) -> float:
    """1 where both hold the same ids in any order, else 0. NaN for two empty rankings."""
    return float(set(a) == set(b)) if a or b else math.nan


def rbo(a: Sequence[str], b: Sequence[str], p: float = PERSISTENCE) -> float:
    """Rank-biased overlap, extrapolated, in [0, 1] (Webber, Moffat & Zobel 2010, equation 32).

    The mean share of ids common to both down to each depth, with weights that fall as p^depth, so
    that early agreement counts most; below the end of a ranking the agreement seen so far is taken
    to go on. 1 where one ranking begins with the other. No ties. NaN for two empty rankings.
    Raises ValueError for p outside (0, 1).
    """
    if not 0 < p < 1:
        raise ValueError(f"p: found {p}; a number between 0 and 1 is wanted")
    short, long = sorted((list(dict.fromkeys(a)), list(dict.fromkeys(b))), key=len)
    s, l = len(short), len(long)  # noqa: E741  the names of the paper
    if not s:
        return math.nan if not l else 0.0
    common = _common(short, long)
    agreement = [x / d for d, x in enumerate(common, start=1)]
    for d in range(s + 1, l + 1):
        agreement[d - 1] += common[s - 1] * (d - s) / (s * d)
    weighted = math.fsum(x * p**d for d, x in enumerate(agreement, start=1))
    tail = (common[-1] - common[s - 1]) / l + common[s - 1] / s
    return min(1.0, (1 - p) / p * weighted + tail * p**l)


def _common(short: Sequence[str], long: Sequence[str]) -> list[int]:
    """X_d of the paper, d = 1..len(long): the ids that the first d of both rankings share."""
    seen: set[str] = set()
    shared, found = 0, []
    for d, own in enumerate(long):
        for id_ in (own, *short[d : d + 1]):
            shared += id_ in seen
            seen.add(id_)
        found.append(shared)
    return found

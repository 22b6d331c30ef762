"""Consistency where the passages happened to stay the same: a stand-in for holding them fixed.

Rewordings that keep their passages are the milder ones. Between kinds of rewording that can be
mended: the consistency of each kind's pairs with the same passages counts by the kind's share of
all pairs (direct standardisation). Within a kind it cannot.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from accord.evaluate.metrics import Floats
from accord.evaluate.ratios import NONE, Share, share


@dataclass(frozen=True)
class Kind:
    """Sums by question (n,) of one kind of rewording: scores and pairs, of all and of the same."""

    total: Floats
    pairs: Floats
    total_same: Floats
    pairs_same: Floats


@dataclass(frozen=True)
class Observed:
    """The standardised consistency and that of all pairs, with their standard errors.

    `names`: the kinds it is over; one without a pair with the same passages has nothing to give.
    """

    names: tuple[str, ...]
    gen: float
    gen_error: float
    e2e: float
    e2e_error: float
    pairs: float
    pairs_same: float
    clusters: int
    retriever: Share


def standardise(kinds: Mapping[str, Kind]) -> Observed | None:
    """The standardised consistency of pairs with the same passages; None where there is none.

    The standard error and the interval of the share are of the linearised estimates: what each
    question moves them by (Woodruff 1971), so that whole questions are the unit.
    """
    used = {name: kind for name, kind in kinds.items() if kind.pairs_same.sum() > 0}
    if not used:
        return None
    pairs = sum(kind.pairs for kind in used.values())
    total = sum(kind.total for kind in used.values())
    assert isinstance(pairs, np.ndarray)
    assert isinstance(total, np.ndarray)
    size = float(pairs.sum())
    e2e = float(total.sum()) / size
    means = {k: float(own.total_same.sum() / own.pairs_same.sum()) for k, own in used.items()}
    gen = sum(means[k] * float(own.pairs.sum()) for k, own in used.items()) / size
    moved_gen = -gen * pairs / size
    for name, own in used.items():
        weight = float(own.pairs.sum()) / size
        residue = own.total_same - means[name] * own.pairs_same
        moved_gen += weight * residue / own.pairs_same.sum() + means[name] * own.pairs / size
    moved_e2e = (total - e2e * pairs) / size
    asked = pairs > 0
    n = int(asked.sum())
    moved_gen, moved_e2e = moved_gen[asked], moved_e2e[asked]
    parts, wholes = gen - e2e + n * (moved_gen - moved_e2e), 1 - e2e - n * moved_e2e
    retriever = share(parts, wholes, 0.0 - e2e / (1 - e2e)) if e2e < 1 else NONE
    same = float(sum(own.pairs_same.sum() for own in used.values()))
    errors = _error(moved_gen), _error(moved_e2e)
    return Observed(tuple(used), gen, errors[0], e2e, errors[1], size, same, n, retriever)


def _error(moved: Floats) -> float:
    """The standard error of an estimate from what each question (n,) moves it by."""
    n = len(moved)
    return math.sqrt(float((moved**2).sum()) * n / (n - 1)) if n > 1 else math.nan

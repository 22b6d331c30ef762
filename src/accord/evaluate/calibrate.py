"""The threshold above which a score means "the same answer", from pairs that people judged.

The rule is that of RS: equivalent if the score is strictly above T. T is the smallest observed
score above which the share of equivalent pairs, the precision, reaches the target: of all such
thresholds the one with the largest recall. It maps along with any increasing transform of the
scores. The lowest score is always rejected: below it nothing was judged. Why not a stricter rule:
docs/results/calibration.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError
from accord.evaluate import statistics

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Booleans = NDArray[np.bool_]

EDGES = (10, 30, 100)  # longest answer of each bin but the last, in tokens
BINS = ("up to 10", "11 to 30", "31 to 100", "above 100")
FEWEST = 20  # pairs in a bin; groups without a warning
FAR = 0.1  # below the target, worth a warning
_PLACE, _PRECISION, _RECALL, _AREA, _UNSEEN = range(5)  # rows of the resamples


@dataclass(frozen=True)
class _Pairs:
    """N pairs, sorted by score, as places among D distinct scores."""

    values: Floats  # (D,), ascending
    place: Places  # (N,)
    cell: Places  # (N,): place + D * label
    label: Booleans  # (N,)
    group: Places  # (N,)
    groups: int

    def table(self, weights: Floats | None = None) -> Floats:
        """Weights (N,) summed by label and score: (2, D), pairs not equivalent first."""
        cells = np.bincount(self.cell, weights, minlength=2 * len(self.values))
        return cells.reshape(2, -1).astype(np.float64)

    def sizes(self) -> dict[str, int]:
        """How many pairs, equivalent ones and groups there are."""
        return {"n": len(self.label), "positives": int(self.label.sum()), "groups": self.groups}

    def spread(self, wanted: Booleans) -> int:
        """In how many groups the `wanted` (N,) pairs are."""
        return len(np.unique(self.group[wanted]))


def calibrate(
    scores: Floats,
    labels: Booleans,
    groups: Sequence[str | None],
    lengths: Sequence[int],
    *,
    precision: float = 0.9,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The smallest threshold at which `scores` (N,) agree with `labels` (N,) at a precision.

    `groups` (N,) names pairs that are not independent, None a pair that stands alone; `lengths`
    (N,) are tokens of a pair's longer answer. NaN scores are left out and counted. Figures are
    fractions, thresholds are scores; null is "cannot be known", and `why` says so of a threshold.
    Thresholds from `threshold` to below `until` accept the same pairs. The order does not matter.

    `precision_unseen` is the mean precision, at thresholds chosen on resampled groups, among the
    groups that were not drawn (leave-one-out bootstrap; Efron & Tibshirani 1997). No pair judges a
    threshold that it helped to choose; chosen on .63 of the groups, it errs on the low side.
    Raises InputError for settings out of range, no scored pairs, all of one kind, infinite scores.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    if not 0 < precision <= 1:
        raise InputError(f"precision: found {precision}; a number above 0 and up to 1 is wanted")
    if resamples < 2:
        raise InputError(f"resamples: found {resamples}; at least 2 are wanted")
    scored = _scored(scores, labels)
    group = _code(scores, labels, groups)
    place = np.where(scored, np.searchsorted(EDGES, np.asarray(lengths)), len(BINS))

    def pairs(own: Booleans) -> _Pairs:
        return _index(scores[own], labels[own], group[own])

    settings = (precision, resamples, seed)
    bins = {name: pairs(place == index) for index, name in enumerate(BINS)}
    return {
        "target": precision,
        **_summary(pairs(scored), *settings),
        "unscored": int((~scored).sum()),
        "by_length": {name: _bare(own) or _summary(own, *settings) for name, own in bins.items()},
        "signatures": {"resamples": resamples, "seed": seed, "cluster": "group"},
    }


def _scored(scores: Floats, labels: Booleans) -> Booleans:
    """Which pairs (N,) have a score, once it is known that they will do."""
    if not len(scores):
        raise InputError("labelled pairs: there are none; pairs judged by people are wanted")
    infinite = np.flatnonzero(np.isinf(scores))
    if len(infinite):
        raise InputError(
            f"scores: pair {infinite[0] + 1} has {scores[infinite[0]]}; "
            "finite numbers are wanted, or NaN where a pair cannot be scored"
        )
    scored: Booleans = ~np.isnan(scores)
    if not scored.any():
        raise InputError(f"scores: none of the {len(scores)} labelled pairs could be scored")
    found = labels[scored]
    if found.all() or not found.any():
        kind = "equivalent" if found.all() else "not equivalent"
        raise InputError(f"labelled pairs: all {len(found)} scored are {kind}; both are wanted")
    return scored


def _code(scores: Floats, labels: Booleans, groups: Sequence[str | None]) -> Places:
    """Numbers (N,) of the groups that do not depend on the order of the pairs."""
    named = sorted({name for name in groups if name is not None})
    names = {name: number for number, name in enumerate(named)}
    codes = np.array([-1 if name is None else names[name] for name in groups], dtype=np.intp)
    order = np.lexsort((labels, scores))
    alone = order[codes[order] < 0]
    codes[alone] = len(names) + np.arange(len(alone))
    return codes


def _index(scores: Floats, labels: Booleans, group: Places) -> _Pairs:
    order = np.argsort(scores, kind="stable")
    values, place = np.unique(scores[order], return_inverse=True)
    names, numbers = np.unique(group[order], return_inverse=True)
    cell = place + len(values) * labels[order]
    return _Pairs(values, place, cell, labels[order], numbers, len(names))


def _bare(pairs: _Pairs) -> dict[str, Any] | None:
    """What is said of a bin that has too few pairs, or one kind only; None where it will do."""
    n, positives = len(pairs.label), int(pairs.label.sum())
    if n >= FEWEST and 0 < positives < n:
        return None
    few = f"{n} scored pairs; at least {FEWEST} are wanted"
    why = few if n < FEWEST else f"all pairs are {'' if positives else 'not '}equivalent"
    return {"threshold": None, "precision": None, "recall": None, "why": why, **pairs.sizes()}


def _summary(pairs: _Pairs, target: float, resamples: int, seed: int) -> dict[str, Any]:
    """Threshold, precision, recall and area with intervals, of pairs of both kinds."""
    table = pairs.table()
    chosen = _choose(_shares(table)[0], target)
    drawn = _resample(pairs, chosen, target, resamples if pairs.groups > 1 else 0, seed)
    reached = chosen < len(pairs.values) - 1
    found = _found(pairs, table, chosen, drawn) if reached else _missed(pairs, table, target)
    area, spread = _area(table), min(pairs.spread(pairs.label), pairs.spread(~pairs.label))
    return {
        **found,
        "auc": area,
        "ci": {**found["ci"], "auc": statistics.interval(area, drawn[_AREA], spread)},
        **pairs.sizes(),
    }


def _found(pairs: _Pairs, table: Floats, chosen: int, drawn: Floats) -> dict[str, Any]:
    """What is known of the `chosen` place, from the table (2, D) and the resamples `drawn`."""
    precision, recall = (float(share[chosen]) for share in _shares(table))
    accepted = pairs.place > chosen
    seen = drawn[_UNSEEN][~np.isnan(drawn[_UNSEEN])]
    unseen = float(seen.mean()) if len(seen) else None
    ends = statistics.interval(precision, drawn[_PRECISION], pairs.spread(accepted))
    if ends and unseen is not None:
        # T is where these pairs reach the target, so they flatter it: the lower end moves down by
        # the optimism, as in Noma et al. (2021, Stat. Med. 40:5691), who move the upper end too.
        ends[0] = max(0.0, ends[0] - max(0.0, precision - unseen))
    return {
        "threshold": float(pairs.values[chosen]),
        "until": float(pairs.values[chosen + 1]),
        "precision": precision,
        "precision_unseen": unseen,
        "recall": recall,
        "accepted": int(accepted.sum()),
        "ci": {
            "threshold": _around(pairs, chosen, drawn[_PLACE]),
            "precision": ends,
            "recall": statistics.interval(recall, drawn[_RECALL], pairs.spread(pairs.label)),
        },
    }


def _around(pairs: _Pairs, chosen: int, places: Floats) -> list[float | None] | None:
    """The interval of T, from the places chosen on resamples; an upper end null: "not reached".

    The expanded percentile interval (Hesterberg 2015, arXiv 1411.5279), in places, not scores, so
    that it maps along with them. Resamples repeat the luck that put T too low: the upper end is the
    higher of its own and the basic bootstrap's (Davison & Hinkley 1997, section 5.2).
    """
    last, n = len(pairs.values) - 1, pairs.groups
    if n < 2:
        return None
    stretch = math.sqrt(n / (n - 1)) * statistics.student(0.975, n - 1)
    outer = NormalDist().cdf(-stretch)
    low = min(chosen, int(np.quantile(places, outer, method="lower")))
    high = max(2 * chosen - low, int(np.quantile(places, 1 - outer, method="higher")))
    return [float(pairs.values[low]), float(pairs.values[high]) if high < last else None]


def _missed(pairs: _Pairs, table: Floats, target: float) -> dict[str, Any]:
    """Nothing, and why: no threshold reaches the target."""
    nothing: dict[str, Any] = {"threshold": None, "precision": None, "recall": None, "ci": {}}
    if len(pairs.values) == 1:
        return {**nothing, "why": f"all {len(pairs.label)} scores are {float(pairs.values[0])!r}"}
    shares = _shares(table)[0][:-1]
    best = {"precision": float(shares.max()), "threshold": float(pairs.values[shares.argmax()])}
    why = f"the best precision is {best['precision']:.3f}, above {best['threshold']!r}"
    return {**nothing, "why": f"{why}; the target is {target}", "best": best}


def _shares(table: Floats) -> tuple[Floats, Floats]:
    """Precision and recall (D,) strictly above each score of a table (2, D); NaN for 0 / 0."""
    total = table.sum(axis=1, keepdims=True)
    above = total - np.cumsum(table, axis=1)
    with np.errstate(invalid="ignore"):
        return above[1] / above.sum(axis=0), above[1] / total[1]


def _choose(precision: Floats, target: float) -> int:
    """Place of the smallest score above which the target is reached; else the last place."""
    reached = precision >= target
    return int(reached.argmax()) if reached.any() else len(reached) - 1


def _area(table: Floats) -> float:
    """Area under the ROC curve of a table (2, D): Mann-Whitney, ties 1/2 (Bamber 1975); or NaN."""
    below = np.cumsum(table[0]) - table[0] / 2
    possible = float(table[0].sum() * table[1].sum())
    return float(table[1] @ below) / possible if possible else math.nan


def _resample(pairs: _Pairs, chosen: int, target: float, resamples: int, seed: int) -> Floats:
    """Five figures of each resample, (5, resamples), NaN where undefined.

    The place that it would choose; precision and recall at the `chosen` place; area; precision, in
    the groups that were not drawn, at the place that it would choose.
    """
    random = np.random.default_rng(seed)
    groups, figures = pairs.groups, np.empty((5, resamples))
    first = np.searchsorted(pairs.place, np.arange(len(pairs.values)), side="right")
    for column in figures.T:
        drawn = np.bincount(random.integers(groups, size=groups), minlength=groups)
        weights = drawn.astype(np.float64)[pairs.group]
        table = pairs.table(weights)
        precision, recall = _shares(table)
        place = _choose(precision, target)
        left = weights[first[place] :] == 0
        found, size = np.count_nonzero(left & pairs.label[first[place] :]), np.count_nonzero(left)
        unseen = found / size if size else math.nan
        column[:] = place, precision[chosen], recall[chosen], _area(table), unseen
    return figures


def render(calibration: dict[str, Any], name: str) -> str:
    """The calibration of score `name` as plain text of at most 100 columns."""
    head = "{n} pairs in {groups} groups, {positives} equivalent, {unscored} more unscored"
    lost = f"no threshold: {calibration.get('why')}"
    text = [
        f"{name}: {head.format_map(calibration)}",
        *([lost] if calibration["threshold"] is None else _chosen(calibration)),
        f"{'tokens':<11}{'pairs':>7}{'threshold':>11}{'precision':>11}{'recall':>8}",
    ]
    figures = "{n:>7}{threshold:>11.4g}{precision:>11.2f}{recall:>8.2f}"
    for bin_, own in calibration["by_length"].items():
        columns = "{n:>7}  {why}" if own["threshold"] is None else figures
        text.append(f"{bin_:<11}{columns.format_map(own)}")
    if calibration["groups"] < FEWEST:
        text.append(f"warning: {calibration['groups']} groups are few; the intervals are rough")
    return "\n".join(text)


def _chosen(calibration: dict[str, Any]) -> list[str]:
    """What the threshold is and means, and a warning where that is uncertain."""
    target, unseen = calibration["target"], calibration["precision_unseen"]
    known = {key: calibration["ci"][key] for key in ("precision", "recall")}
    ends = known["precision"]
    low = f"the precision may be as low as {ends[0]:.2f}" if ends else "its interval is unknown"
    warning = f"warning: {low}; label pairs of more groups"
    spans = {k: f"[{e[0]:.2f}, {e[1]:.2f}]" if e else "[unknown]" for k, e in known.items()}
    return [
        "threshold {threshold!r} (up to below {until!r} the same)".format_map(calibration),
        f"precision {calibration['precision']:.2f} {spans['precision']}, target {target}, "
        f"on unseen groups {'unknown' if unseen is None else f'{unseen:.2f}'}",
        f"recall    {calibration['recall']:.2f} {spans['recall']}, area under the ROC curve "
        f"{calibration['auc']:.2f}",
        f"Of the pairs that score above it {calibration['precision']:.0%} are equivalent; "
        f"it finds {calibration['recall']:.0%} of those.",
        *([warning] if not ends or ends[0] < target - FAR else []),
    ]

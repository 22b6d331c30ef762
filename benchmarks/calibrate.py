"""Are the intervals of a calibrated threshold honest? Simulated labelled pairs with known truth.

Each table has groups of 1 to 8 pairs that share a shift of the score and of the chance of being
equivalent. The truth comes from 400,000 groups of the same kind. Prints the rows of
docs/results/calibration.md. Run: python benchmarks/calibrate.py
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.evaluate.calibrate import calibrate

Floats = NDArray[np.float64]
TARGET = 0.9
GROUPS = (12, 30, 100)


@dataclass(frozen=True)
class World:
    """Log-odds of equivalence: base + slope * score + a shift of the group, of deviation 1."""

    slope: float
    base: float
    steps: int = 0  # in a unit of the score; 0: continuous

    def draw(
        self, random: np.random.Generator, groups: int
    ) -> tuple[Floats, NDArray[np.bool_], NDArray[np.intp]]:
        """Scores, labels and groups of all pairs of so many groups."""
        group = np.repeat(np.arange(groups), random.integers(1, 9, groups))
        score = random.normal(0, 0.5, groups)[group] + random.normal(0, 0.87, len(group))
        odds = self.base + self.slope * score + random.normal(0, 1, groups)[group]
        labels = random.random(len(group)) < 1 / (1 + np.exp(-odds))
        return np.round(score * self.steps) / self.steps if self.steps else score, labels, group


WORLDS = {
    "good score": World(2.5, 0.3),
    "good, many ties": World(2.5, 0.3, steps=8),
    "weak score": World(1.2, 0.5),
    "no relation": World(0.0, 0.5),
    "flat near the target": World(0.1, 2.9),
}


class Truth:
    """Precision and recall of any threshold in a world, and its best threshold."""

    def __init__(self, world: World) -> None:
        scores, labels, _ = world.draw(np.random.default_rng(99), 400_000)
        order = np.argsort(scores)
        self.scores = scores[order]
        self.found = np.append(np.cumsum(labels[order][::-1])[::-1], 0)  # equivalent from here on

    def at(self, threshold: float) -> tuple[float, float]:
        """Precision and recall above a threshold."""
        place = np.searchsorted(self.scores, threshold, side="right")
        accepted = max(1, len(self.scores) - place)
        return self.found[place] / accepted, self.found[place] / self.found[0]

    def threshold(self) -> float:
        """The smallest threshold at the target; NaN if none that accepts 1,000 pairs, or any."""
        values = np.unique(self.scores[:-1000])
        if self.at(values[0])[0] >= TARGET:
            return float("nan")
        for value in values[:: max(1, len(values) // 5000)]:
            if self.at(value)[0] >= TARGET:
                return float(value)
        return float("nan")


def strict(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """The smallest threshold such that it and every higher one reach the target; NaN if none."""
    best = float("nan")
    for value in np.unique(scores)[-2::-1]:
        if labels[scores > value].mean() < TARGET:
            break
        best = float(value)
    return best


def judge(found: dict[str, Any], truth: Truth, best: float) -> dict[str, float]:
    """One table's estimates against the truth."""
    true, recall = truth.at(found["threshold"])
    ends, low = found["ci"], found["ci"]["threshold"]
    result = {
        "true": true,
        "recall": recall,
        "naive": found["precision"] - true,
        "accepted": found["accepted"],
    }
    if found["precision_unseen"] is not None:
        result["unseen"] = found["precision_unseen"] - true
    for name, value in (("precision", true), ("recall", recall)):
        if ends[name]:
            result[f"covers {name}"] = ends[name][0] <= value <= ends[name][1]
    if ends["precision"]:
        result["below"] = true < ends["precision"][0]
        result["width"] = ends["precision"][1] - ends["precision"][0]
    result["interval"] = ends["precision"] is not None
    if low and not np.isnan(best):
        result["covers T"] = low[0] <= best <= (np.inf if low[1] is None else low[1])
    return result


def simulate(world: World, groups: int, args: argparse.Namespace) -> Iterator[dict[str, float]]:
    """One row for each table, of the rule and of the stricter one."""
    truth = Truth(world)
    best = truth.threshold()
    for table in range(args.tables):
        random = np.random.default_rng([args.seed, groups, table])
        scores, labels, group = world.draw(random, groups)
        if labels.all() or not labels.any():
            continue
        names = [str(number) for number in group]
        found = calibrate(
            scores, labels, names, [0] * len(names), precision=TARGET, resamples=args.resamples
        )
        row: dict[str, float] = {"pairs": len(scores), "reached": found["threshold"] is not None}
        if found["threshold"] is not None:
            row |= judge(found, truth, best)
        other = strict(scores, labels)
        if not np.isnan(other):
            row["strict true"], row["strict recall"] = truth.at(other)
        yield row


COLUMNS = (
    ("pairs", "pairs", ".0f"),
    ("reached", "reached", ".2f"),
    ("accepted", "accepted", ".0f"),
    ("true", "true precision", ".3f"),
    ("recall", "true recall", ".3f"),
    ("naive", "bias, same pairs", "+.3f"),
    ("unseen", "bias, unseen", "+.3f"),
    ("interval", "has interval", ".2f"),
    ("covers precision", "covers precision", ".3f"),
    ("below", "truth below it", ".3f"),
    ("width", "width", ".2f"),
    ("covers recall", "covers recall", ".3f"),
    ("covers T", "covers T", ".3f"),
    ("strict true", "strict rule: precision", ".3f"),
    ("strict recall", "strict rule: recall", ".3f"),
)


def main() -> None:
    """Print one Markdown row for each world and number of groups."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    args = parser.parse_args()
    print("| world | groups |", " | ".join(title for _, title, _ in COLUMNS), "|")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name in args.worlds:
        for groups in args.groups:
            rows = list(simulate(WORLDS[name], groups, args))
            cells = []
            for key, _, spec in COLUMNS:
                values = [row[key] for row in rows if key in row]
                cells.append(format(np.mean(values), spec) if values else "")
            print(f"| {name} | {groups} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""Do the intervals cover, does the test reject a true null rarely and find a planted effect often?

    python benchmarks/intervals.py [--simulations 1000] [--resamples 1000] [--seed 0]

Simulated tables: wordings of a question are alike (a beta-distributed rate or mean of its own), and
questions have 1 to 5 pairs. The truth is known by construction. The simulated numbers go through
the functions that `accord evaluate` and `accord compare` use.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from accord.evaluate.statistics import Floats, bootstrap, detectable, ratio, sign_flip

ALPHA = 0.05


@dataclass(frozen=True)
class World:
    """How the scores of a simulated model come about."""

    name: str
    mean: float
    alike: float  # the smaller, the more alike are the pairs of a question
    binary: bool

    def rates(self, random: np.random.Generator, questions: int) -> Floats:
        """The mean score of each question."""
        return random.beta(self.mean * self.alike, (1 - self.mean) * self.alike, questions)

    def scores(self, random: np.random.Generator, rates: Floats, pairs: Floats) -> Floats:
        """Summed scores of each question's pairs."""
        if self.binary:
            return random.binomial(pairs.astype(int), rates).astype(float)
        spread = 8.0
        return np.array(
            [
                random.beta(r * spread + 1e-9, (1 - r) * spread + 1e-9, int(m)).sum()
                for r, m in zip(rates, pairs, strict=True)
            ]
        )


WORLDS = (
    World("rate near .4 (RS)", 0.4, 1.5, True),
    World("rate near .85 (EM of a steady model)", 0.85, 1.5, True),
    World("rate near .1 (EM of an unsteady one)", 0.1, 1.5, True),
    World("mean near .5 (ROUGE-L)", 0.5, 3.0, False),
)


def table(world: World, random: np.random.Generator, questions: int) -> Floats:
    """Sums (questions, 2) of one model: score, number of pairs."""
    pairs = random.integers(1, 6, questions).astype(float)
    return np.column_stack([world.scores(random, world.rates(random, questions), pairs), pairs])


def two_models(
    world: World, random: np.random.Generator, questions: int, effect: float
) -> tuple[Floats, Floats]:
    """Two models that share their questions' rates in part; the first is better by `effect`.

    Its rates are moved towards 1 (or 0) by a share that makes the mean differ by `effect`.
    """
    pairs = random.integers(1, 6, questions).astype(float)
    shared = world.rates(random, questions)
    both = []
    for shift in (effect, 0.0):
        own = np.where(random.random(questions) < 0.5, shared, world.rates(random, questions))
        if shift:
            own = own + (1 - own) * shift / (1 - world.mean)
        both.append(np.column_stack([world.scores(random, own, pairs), pairs]))
    return both[0], both[1]


def share(hits: int, total: int) -> str:
    """A share with its exact 95 % interval half-width."""
    p = hits / total
    return f"{p:6.1%} ± {1.96 * np.sqrt(p * (1 - p) / total):.1%}"


def coverage(world: World, questions: int, runs: int, resamples: int, seed: int) -> int:
    """How many of the intervals hold the truth: the expected ratio, which is the world's mean."""
    random = np.random.default_rng([seed, questions])
    hits = 0
    for run in range(runs):
        found = bootstrap(table(world, random, questions), ratio, resamples=resamples, seed=run)
        hits += bool(found.low[0] <= world.mean <= found.high[0])
    return hits


def rejected(
    world: World, questions: int, effect: float, runs: int, resamples: int, seed: int
) -> tuple[int, int]:
    """How often p < .05, and how often the paired interval holds the true difference."""
    random = np.random.default_rng([seed, questions, 1])
    found = covered = 0
    for run in range(runs):
        a, b = two_models(world, random, questions, effect)
        p = sign_flip(a, b, ratio, resamples=resamples, seed=run)[0]
        found += bool(p < ALPHA)
        paired = bootstrap(a, ratio, minus=b, resamples=resamples, seed=run)
        covered += bool(paired.low[0] <= effect <= paired.high[0])
    return found, covered


def stated(world: World, questions: int, resamples: int, seed: int, tests: int = 1) -> float:
    """The detectable difference that a table of this world states: the median of 40 tables."""
    random = np.random.default_rng([seed, questions, 2])
    sizes = []
    for run in range(40):
        a, b = two_models(world, random, questions, 0.0)
        paired = bootstrap(a, ratio, minus=b, resamples=resamples, seed=run)
        values = tuple(float(own[:, 0].sum() / own[:, 1].sum()) for own in (a, b))
        sizes.append(detectable(float(paired.errors[0]), questions, values, tests=tests) or 1.0)
    return float(np.median(sizes))


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    runs, resamples, seed = options.simulations, options.resamples, options.seed
    print(f"{runs} simulations, {resamples} resamples, seed {seed}\n")
    show_coverage(runs, resamples, seed)
    show_tests(runs, resamples, seed)


def show_coverage(runs: int, resamples: int, seed: int) -> None:
    """Coverage of the 95 % interval of one score."""
    print("coverage of the 95 % interval of one score")
    for world in WORLDS:
        for questions in (12, 20, 50, 100, 300):
            hits = coverage(world, questions, runs, resamples, seed)
            print(f"  {world.name:38} {questions:4} questions  {share(hits, runs)}")


def show_tests(runs: int, resamples: int, seed: int) -> None:
    """The paired test under the null and at the stated detectable difference."""
    print("\npaired: null rejected / interval of the difference covers / planted effect found")
    for world in WORLDS:
        for questions in (20, 100, 300):
            null, covers = rejected(world, questions, 0.0, runs, resamples, seed)
            size = stated(world, questions, resamples, seed)
            line = f"  {world.name:38} {questions:4} questions  {share(null, runs)}  "
            line += share(covers, runs)
            if world.mean + size < 1:
                hit, covered = rejected(world, questions, size, runs, resamples, seed + 1)
                line += f"  d = {size:.3f} found {share(hit, runs)}, covered {share(covered, runs)}"
            print(line, flush=True)


if __name__ == "__main__":
    main()

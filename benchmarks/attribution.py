"""Do the intervals of an attribution cover, and what does it cost?

    python benchmarks/attribution.py [--simulations 1000] [--resamples 500] [--seed 0] [--pairs N]

Simulated questions with 1 to 5 rewordings: a rewording changes the passages with a rate of its
question, changed passages spoil the agreement of the answers with a rate of the world, and the
generator disagrees with a rate of its question. So the retriever's share is known. The interval is
compared with two others on the same tables: Student's t on the linearised share, and percentiles of
resampled shares. With --pairs N the time of `evaluate` on N pairs, and of the attribution in it.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from accord.evaluate import stage
from accord.evaluate.observed import Kind, standardise
from accord.evaluate.ratios import share
from accord.evaluate.statistics import Floats, student
from accord.records import Answer

SIZES = (20, 50, 100, 300)


@dataclass(frozen=True)
class World:
    """How often the generator disagrees, passages change, and the change spoils agreement."""

    name: str
    generator: float
    changed: float
    spoilt: float
    harder: float = 0.0  # how often the generator fails a rewording that also changes passages
    alike: float = 1.5  # the smaller, the more alike are the pairs of a question

    @property
    def e2e(self) -> float:
        """The true consistency end to end."""
        left = (1 - self.harder) * (1 - self.spoilt)
        return (1 - self.generator) * (1 - self.changed * (1 - left))

    @property
    def gen(self) -> float:
        """The true consistency with passages held."""
        return (1 - self.generator) * (1 - self.changed * self.harder)

    @property
    def share(self) -> float:
        """The true share of the retriever."""
        return (self.gen - self.e2e) / (1 - self.e2e)

    def rates(self, random: np.random.Generator, mean: float, questions: int) -> Floats:
        """A rate of each question."""
        return random.beta(mean * self.alike, (1 - mean) * self.alike, questions)

    def table(self, random: np.random.Generator, questions: int) -> tuple[Floats, ...]:
        """By question (n,): pairs, agreeing end to end, with passages held; same, agreeing there.

        Where passages did not change, the answer with the original's passages is the answer.
        """
        pairs = random.integers(1, 6, questions)
        owner = np.repeat(np.arange(questions), pairs)
        fails = self.rates(random, self.generator, questions)[owner]
        changed = random.random(len(owner)) < self.rates(random, self.changed, questions)[owner]
        agrees = (1 - fails) * np.where(changed, 1 - self.harder, 1.0)
        held, other = random.random((2, len(owner))) < agrees
        other &= random.random(len(owner)) >= self.spoilt
        e2e = np.where(changed, other, held)
        columns = (np.ones(len(owner)), e2e, held, ~changed, e2e & ~changed)
        return tuple(np.bincount(owner, column, questions) for column in columns)


WORLDS = (
    World("mostly the retriever", 0.1, 0.6, 0.6),
    World("both", 0.3, 0.5, 0.6),
    World("the generator alone", 0.4, 0.5, 0.0),
    World("a steady model", 0.04, 0.3, 0.15),
    World("an unsteady model", 0.6, 0.6, 0.5),
    World("harder wordings change passages", 0.1, 0.5, 0.3, harder=0.3),
)


def plain_t(parts: Floats, wholes: Floats) -> tuple[float, float]:
    """Student's t with the linearised standard error."""
    value, n = parts.sum() / wholes.sum(), len(parts)
    error = np.sqrt(((parts - value * wholes) ** 2).sum() * n / (n - 1)) / wholes.sum()
    return value - student(0.975, n - 1) * error, value + student(0.975, n - 1) * error


def percentiles(
    parts: Floats, wholes: Floats, random: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """The percentiles of shares of resampled questions."""
    n = len(parts)
    counts = random.multinomial(n, np.full(n, 1 / n), size=resamples)
    summed = counts @ wholes
    known = summed > 0
    low, high = np.percentile((counts @ parts)[known] / summed[known], [2.5, 97.5])
    return float(low), float(high)


def simulate(world: World, questions: int, runs: int, resamples: int, seed: int) -> str:
    """One line of the table."""
    random = np.random.default_rng([seed, questions])
    given = fieller = t = percentile = observed_given = observed = 0
    width, stood_in = [], []
    for _ in range(runs):
        pairs, e2e, held, same, same_e2e = world.table(random, questions)
        parts, wholes = held - e2e, pairs - e2e
        if wholes.sum() == 0:
            continue
        found = share(parts, wholes, -e2e.sum() / wholes.sum())
        if found.ends:
            given += 1
            fieller += found.low <= world.share <= found.high
            width.append(found.high - found.low)
        low, high = plain_t(parts, wholes)
        t += low <= world.share <= high
        low, high = percentiles(parts, wholes, random, resamples)
        percentile += low <= world.share <= high
        stand_in = standardise({"": Kind(e2e, pairs, same_e2e, same)})
        if stand_in and stand_in.retriever.ends:
            stood_in.append(stand_in.retriever.value)
            observed_given += 1
            observed += stand_in.retriever.low <= world.share <= stand_in.retriever.high
    cells = [
        f"{world.e2e:.2f} | {world.share:.2f} | {questions} | {given / runs:.1%}",
        f"{fieller / max(given, 1):.1%} | {np.median(width or [np.nan]):.2f}",
        f"{t / runs:.1%} | {percentile / runs:.1%}",
        f"{np.mean(stood_in or [np.nan]):.2f} | {observed / max(observed_given, 1):.1%}",
    ]
    return f"| {world.name} | {' | '.join(cells)} |"


def timed(pairs: int, held: bool, passages: bool, resamples: int) -> str:
    """CPU seconds of `evaluate` on one model, and of `attribute` in it."""
    random = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(2000)])

    def said() -> str:
        return " ".join(random.choice(words, 30))

    answers = []
    for q in range(pairs):
        ids = tuple(random.permutation(6)[:3].astype(str)) if passages else ()
        fields = {"model": "M", "query": f"question {q}", "passages": ids}
        answers.append(Answer(**fields, id=f"q{q}", answer=said()))
        other = {**fields, "id": f"q{q}.0", "original_id": f"q{q}", "type": "semantic"}
        answers.append(Answer(**other, answer=said()))
        if held:
            answers.append(Answer(**other, answer=said(), contexts="original"))
    spent, attribute = [], stage.attribute

    def watched(*args: object, **options: object) -> object:
        start = time.process_time()
        found = attribute(*args, **options)  # type: ignore[arg-type]
        spent.append(time.process_time() - start)
        return found

    stage.attribute = watched  # type: ignore[assignment]
    start = time.process_time()
    references = {f"q{q}": None for q in range(pairs)}
    stage.evaluate(answers, references, resamples=resamples)
    whole, stage.attribute = time.process_time() - start, attribute
    what = "fixed passages" if held else "own passages" if passages else "no passages"
    return f"| {what} | {pairs:,} | {whole:.1f} s | {sum(spent):.2f} s |"


def main() -> None:
    """Print the table, or the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int)
    options = parser.parse_args()
    if options.pairs:
        print("| answers | pairs | evaluate | attribution in it |\n|---|---|---|---|")
        for held, passages in ((False, False), (False, True), (True, True)):
            print(timed(options.pairs, held, passages, options.resamples), flush=True)
        return
    runs, resamples, seed = options.simulations, options.resamples, options.seed
    print(f"{runs} simulations, {resamples} resamples, seed {seed}\n")
    heads = ["world", "C_e2e", "share", "questions", "given", "Fieller", "width", "t"]
    heads += ["percentile", "observed share", "covers"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for world in WORLDS:
        for questions in SIZES:
            print(simulate(world, questions, runs, resamples, seed), flush=True)


if __name__ == "__main__":
    main()

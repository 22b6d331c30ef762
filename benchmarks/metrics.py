"""Cost of the lexical metrics beside the rouge-score package, on one thread.

    python benchmarks/metrics.py [--pairs 100000] [--repeats 7] [--seed 0]

Prints ratios of CPU time from one run: each repeat measures both sides one after the other, and the
median of the repeats' ratios is shown with the smallest and the largest.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate

from rouge_score.rouge_scorer import RougeScorer

from accord.evaluate import metrics
from accord.evaluate.containment import containment

LENGTHS = (10, 30, 100, 300)  # tokens of an answer
TOKENS = 40  # of an answer where all metrics are measured
QUERY = "How do I close my account and what does it cost?"
FUNCTION_WORDS = "the to of and a in is for you be it on with are your or by this as from".split()  # noqa: SIM905
NEGATIONS = "not no never cannot don't without".split()  # noqa: SIM905
# Shares of tokens as in the texts of examples/helpdesk: of answers of 40 tokens three in four hold
# a number, and one in two a negation.
NUMBERS_SHARE, NEGATIONS_SHARE, STOPS_SHARE = 0.035, 0.017, 0.1
SYLLABLES = [c + v for c in "bcdfglmnprst" for v in ("a", "e", "i", "o", "u", "er", "in", "al")]


@dataclass
class Texts:
    """Random answers whose words are spread as in a language, by Zipf's law."""

    random: random.Random

    def __post_init__(self) -> None:
        content = [
            "".join(self.random.choices(SYLLABLES, k=self.random.choice((1, 2, 2, 3))))
            for _ in range(3000)
        ]
        self.words = FUNCTION_WORDS + content
        self.weights = list(accumulate(1 / (rank + 3) for rank in range(len(self.words))))

    def _word(self) -> str:
        drawn = self.random.random()
        if drawn < NUMBERS_SHARE:
            return str(self.random.choice((2, 5, 14, 30, 60, 100, "1,000", "4.5", "three")))
        if drawn < NUMBERS_SHARE + NEGATIONS_SHARE:
            return self.random.choice(NEGATIONS)
        (word,) = self.random.choices(self.words, cum_weights=self.weights)
        stop = self.random.random() < STOPS_SHARE
        return word + self.random.choice(".,") if stop else word

    def pair(self, length: int) -> tuple[str, str]:
        """Two answers of `length` tokens: the second keeps about half of the first's words."""
        first = [self._word() for _ in range(length)]
        second = [w if self.random.random() < 0.5 else self._word() for w in first]
        return " ".join(first).capitalize(), " ".join(second).capitalize()

    def pairs(self, count: int, length: int) -> tuple[list[str], list[str]]:
        """Sides of `count` pairs."""
        drawn = [self.pair(length) for _ in range(count)]
        return [a for a, _ in drawn], [b for _, b in drawn]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rouge_score(first: Sequence[str], second: Sequence[str]) -> list[float]:
    """ROUGE-L F1 by the rouge-score package."""
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    return [scorer.score(b, a)["rougeL"].fmeasure for a, b in zip(first, second, strict=True)]


def all_metrics(first: Sequence[str], second: Sequence[str]) -> dict[str, float]:
    """CPU seconds of each lexical metric; RS is made from ROUGE-L, as `accord evaluate` does."""
    queries = [QUERY] * len(first)
    calls: dict[str, Callable[[], object]] = {
        "rouge_l and rs": lambda: metrics.above(metrics.rouge_l(first, second), 0.7),
        "em": lambda: metrics.em(first, second),
        "token_f1": lambda: metrics.token_f1(first, second),
        "containment with guard": lambda: containment(first, second, queries=queries),
        "bleu statistics": lambda: metrics.bleu(first, second),
    }
    return {name: cpu_seconds(call) for name, call in calls.items()}


def compare_rouge(texts: Texts, repeats: int) -> None:
    """ROUGE-L of rouge-score and of accord by length of the answers."""
    print(f"ROUGE-L, bit-identical scores, CPU time a pair, {repeats} interleaved repeats")
    for length in LENGTHS:
        first, second = texts.pairs(100_000 // length, length)
        few = max(3, 20_000 // length**2)  # rouge-score is quadratic: some of the pairs will do
        ratios = []
        for repeat in range(repeats):
            part = slice(repeat * few, (repeat + 1) * few)
            theirs = cpu_seconds(lambda: rouge_score(first[part], second[part])) / few  # noqa: B023
            ours = cpu_seconds(lambda: metrics.rouge_l(first, second)) / len(first)  # noqa: B023
            ratios.append(theirs / ours)
            if (
                rouge_score(first[part], second[part])
                != metrics.rouge_l(first, second)[part].tolist()
            ):
                sys.exit("the scores differ")
        print(f"  {length:4} tokens: {_spread(ratios)} times as fast as rouge-score")


def compare_all(texts: Texts, pairs: int, sampled: int) -> None:
    """All lexical metrics on `pairs` pairs beside rouge-score's ROUGE-L on a sample of them.

    Both are measured in twenty blocks in turn, so that a busy machine slows both alike.
    """
    blocks, spent, theirs, each = 20, [], [], {}
    for _ in range(blocks):
        first, second = texts.pairs(pairs // blocks, TOKENS)
        seconds = all_metrics(first, second)
        for name, value in seconds.items():
            each[name] = each.get(name, 0.0) + value
        sample = min(sampled // blocks, len(first))
        scale = len(first) / sample
        spent.append(sum(seconds.values()))
        theirs.append(scale * cpu_seconds(lambda: rouge_score(first[:sample], second[:sample])))  # noqa: B023
    print(f"all lexical metrics, {pairs} pairs of {TOKENS} tokens")
    for name, value in each.items():
        print(f"  {name:24} {value:7.2f} s, {value / sum(theirs):.3f} of rouge-score's ROUGE-L")
    shares = [ours / other for ours, other in zip(spent, theirs, strict=True)]
    print(f"  {'together':24} {sum(spent):7.2f} s, {_spread(shares, 3)} of rouge-score's ROUGE-L")
    print(f"  rouge-score, by {sampled} of the pairs: {sum(theirs):.1f} s")


def _spread(values: Sequence[float], digits: int = 1) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description="Cost of the lexical metrics.")
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--sampled", type=int, default=10_000, help="pairs given to rouge-score")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"rouge-score {version('rouge-score')}, seed {given.seed}")
    texts = Texts(random.Random(given.seed))
    metrics.bleu(["warm"], ["up"])
    compare_rouge(texts, given.repeats)
    compare_all(texts, given.pairs, given.sampled)


if __name__ == "__main__":
    main()

"""Each distinct pair of texts once, however often it is asked for: scoring is what costs."""

from collections.abc import Sequence

import numpy as np

from accord.evaluate.answers import Ints
from accord.evaluate.metrics import Floats
from accord.evaluate.scoring import Metrics

Triple = tuple[str, str, str]  # text, text, the words of their question


class Distinct:
    """Distinct pairs of texts; `take` finds the scores of a list of them again."""

    def __init__(self) -> None:
        self.index: dict[Triple, int] = {}
        self.scores: dict[str, Floats] = {}

    def add(self, triples: Sequence[Triple]) -> Ints:
        """The places (N,) of pairs, to be given to `take` once they are scored."""
        index = self.index
        return np.array([index.setdefault(t, len(index)) for t in triples], np.intp)

    def score(self, metrics: Metrics, names: Sequence[str]) -> None:
        """Score all pairs added so far, in one call of each metric."""
        self.scores = metrics.score(names, list(self.index)) if self.index else {}

    def take(self, places: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The scores of pairs by metric, (N,) or (N, k)."""
        return {name: self.scores[name][places] for name in names if name in self.scores}

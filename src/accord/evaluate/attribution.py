"""Where the inconsistency comes from: the retriever, the generator, or noise.

A rewording changes what is retrieved and what the generator reads as the question. Both change the
answer. With the passages of the original held fixed only the second is left. So of what is missing
to full consistency, 1 - C_e2e, the retriever explains (C_gen - C_e2e) / (1 - C_e2e) and the
generator (1 - C_gen) / (1 - C_e2e), of which (1 - floor) / (1 - C_e2e) is noise that shows even
without a rewording. What is unusual here: a share is not forced into [0, 1]. Other passages may
help a rewording; then the retriever's share is negative, and stays so.

Where no answers with fixed passages exist, pairs that happened to keep their passages stand in.
They are the milder rewordings; `how` and `note` say so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.evaluate.aggregate import Part, Path, averaged, mean_of
from accord.evaluate.answers import GOLD, ORIGINAL, Shared
from accord.evaluate.held import AGAIN
from accord.evaluate.metrics import Floats
from accord.evaluate.passages import Gold, agreement
from accord.evaluate.rows import RETRIEVAL, Scored, SeedScores
from accord.evaluate.scoring import JUDGE
from accord.evaluate.shares import E2E, FLOOR, FLOORED, GEN, SAME, How, Shares
from accord.rankings import PERSISTENCE

NOTES: dict[How, str] = {
    "fixed": "every rewording was also asked with the passages of its original",
    "observed": "observed, not held fixed: rewordings that kept their passages stand in; they are "
    "the milder ones, so the retriever's share is rather too large",
    "none": "the answers name no passages: only the consistency end to end is known",
}
SIGNATURE = {
    "shares": "of 1 - C_e2e, over the pairs that have both; passages of the original held fixed",
    "interval": "Fieller, 95 %, over original questions",
    "test": "sign-flip by original question, two-sided mid-p; Holm over metrics and kinds",
    "rbo": f"extrapolated, p = {PERSISTENCE}",
}
Mask = NDArray[np.bool_]


def attribute(
    own: Scored,
    shared: Shared,
    numbers: Mapping[str, Any],
    *,
    gold: Gold | None = None,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Where the inconsistency of one row comes from, as SCORES holds it under `attribution`.

    `numbers`: those of the row, for where nothing but the consistency end to end is known. `gold`:
    the gold passages of questions where they are known.
    """
    seeds = list(own.seeds.values())
    ranked = [agreement(answers, shared, gold) for answers in own.row.seeds.values()]
    how = _how(seeds, ranked)
    found: dict[str, Any] = {"how": how, "note": NOTES[how]}
    sums = _Sums(how, shared, frozenset.intersection(*(frozenset(s.held) for s in seeds)))
    if how == "none" and GOLD not in sums.held:
        return {**found, "retriever": None, "metrics": _end_to_end(seeds[0], numbers)}
    known = [name for name in ranked[0] if all(name in own for own in ranked)]
    by_seed = [
        list(sums.parts(scores, {name: own[name] for name in known}))
        for scores, own in zip(seeds, ranked, strict=True)
    ]
    averages = averaged(by_seed, len(shared.questions))
    shares = Shares(how, averages, sums.kinds, resamples=resamples, seed=seed)
    found |= shares.overall()
    if how == "none":
        found["metrics"] = _end_to_end(seeds[0], numbers)
    pairs = int(shared.star.sum())
    return found | {
        "left_out": pairs - max((m["pairs"] for m in found["metrics"].values()), default=pairs),
        "by_type": shares.by_type(),
    }


def _how(seeds: Sequence[SeedScores], ranked: Sequence[Mapping[str, Floats]]) -> How:
    if all(ORIGINAL in scores.held for scores in seeds):
        return "fixed"
    return "observed" if all(ranked) else "none"


def _end_to_end(scores: SeedScores, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What is known without any passages: the numbers of the row."""
    known = {"n": numbers["questions"], "pairs": numbers["pairs"]}
    return {
        name: {E2E: numbers[name], **known, "ci": {E2E: numbers["ci"][name]}}
        for name in _consistency(scores)
        if numbers.get(name) is not None
    }


def _consistency(scores: SeedScores) -> list[str]:
    return [name for name in scores.pairs if name != JUDGE]  # it is asked for the table only


@dataclass(frozen=True)
class _Sums:
    """What is summed up by question: the same parts for every seed.

    `held`: what every seed was also asked with, of `original`, `gold` and `again`.
    """

    how: How
    shared: Shared
    held: frozenset[str]

    @property
    def kinds(self) -> list[str]:
        """The kinds of rewording."""
        return sorted(set(self.shared.types[self.shared.star].tolist()))

    def parts(self, scores: SeedScores, ranked: Mapping[str, Floats]) -> Iterator[Part]:
        """Every mean of one seed, overall and by kind."""
        star, types = self.shared.star, self.shared.types
        subsets: list[tuple[Path, Mask]] = [((), star)]
        subsets += [(("by_type", kind), star & (types == kind)) for kind in self.kinds]
        for path, mask in subsets:
            for name, values in ranked.items():
                yield self._mean((*path, "retriever", name), values, mask)
            for name in _consistency(scores):
                at = (*path, "metrics", name)
                if self.how == "fixed":
                    yield from self._fixed(at, name, scores, mask)
                elif self.how == "observed":
                    yield from self._observed(at, name, scores, mask)
                if GOLD in self.held:
                    gold = scores.held[GOLD][name]
                    known = mask & ~np.isnan(gold)
                    yield self._mean((*path, "gold", name, E2E), scores.pairs[name], known)
                    both = mask & ~np.isnan(scores.pairs[name])
                    yield self._mean((*path, "gold", name, GOLD), gold, both)

    def _mean(self, path: Path, values: Floats, mask: Mask) -> Part:
        counts = mask & ~np.isnan(values)
        return mean_of(path, values, self.shared.owner, counts, len(self.shared.questions))

    def _fixed(self, at: Path, name: str, scores: SeedScores, mask: Mask) -> Iterator[Part]:
        """Consistency end to end and with the original's passages, over the same pairs."""
        e2e, gen = scores.pairs[name], scores.held[ORIGINAL][name]
        mask = mask & ~np.isnan(e2e) & ~np.isnan(gen)
        yield self._mean((*at, E2E), e2e, mask)
        yield self._mean((*at, GEN), gen, mask)
        yield from self._noise(at, name, scores, mask)

    def _observed(self, at: Path, name: str, scores: SeedScores, mask: Mask) -> Iterator[Part]:
        """Consistency end to end, and of the pairs with the same ranked passages."""
        e2e, index = scores.pairs[name], {what: i for i, what in enumerate(RETRIEVAL)}
        mask = mask & (scores.retrieval != index["unknown"])
        yield self._mean((*at, E2E), e2e, mask)
        yield self._mean((*at, SAME), e2e, mask & (scores.retrieval == index["same"]))
        yield from self._noise(at, name, scores, mask)

    def _noise(self, at: Path, name: str, scores: SeedScores, mask: Mask) -> Iterator[Part]:
        """The floor of the pairs that were asked again, and their consistency end to end."""
        if AGAIN in self.held:
            e2e, again = scores.pairs[name], scores.held[AGAIN][name]
            yield self._mean((*at, FLOORED), e2e, mask & ~np.isnan(again))
            yield self._mean((*at, FLOOR), again, mask & ~np.isnan(e2e))

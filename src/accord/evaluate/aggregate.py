"""From scores of pairs to the numbers of a row: sums by question, ready for the bootstrap.

Each number is a mean: a numerator and a denominator for each question. So every number of a row,
overall and by kind, length and retrieval, comes from the same draws of questions. With several
seeds of a recipe both are averaged over the seeds first: a question counts once, however many seeds
there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.evaluate.answers import Ints, Shared
from accord.evaluate.metrics import BLEU_STATISTICS, Floats, corpus_bleu
from accord.evaluate.rows import RETRIEVAL, Scored, SeedScores
from accord.evaluate.scoring import JUDGE
from accord.evaluate.statistics import Estimates

Path = tuple[str, ...]  # ("rs",), ("group", "rs"), ("by_type", "semantic", "rs")
LENGTHS = {"1-10": 10, "11-30": 30, "31-100": 100, "101-": None}  # words of the longer answer
Part = tuple[Path, Floats, Floats]  # path, numerator and denominator of each question


@dataclass(frozen=True)
class Sums:
    """The numerators and denominators (questions, m each) behind the numbers named by `paths`.

    `grams` (questions, 10): BLEU's statistics, or None where it is not scored.
    """

    paths: list[Path]
    numerators: Floats
    denominators: Floats
    grams: Floats | None = None

    @property
    def names(self) -> list[Path]:
        """The path of each number, in the order of `combine`."""
        return [*self.paths, *([] if self.grams is None else [("bleu",)])]

    @property
    def matrix(self) -> Floats:
        """All sums of each question, (questions, k), as `combine` takes them added up."""
        parts = [self.numerators, self.denominators]
        return np.concatenate([*parts, *([] if self.grams is None else [self.grams])], axis=1)

    @property
    def clusters(self) -> NDArray[np.intp]:
        """How many questions have something to say on each number."""
        said = [*(self.denominators > 0).T, *([] if self.grams is None else [self.grams[:, 1] > 0])]
        return np.array([own.sum() for own in said], np.intp)

    def combine(self, sums: Floats) -> Floats:
        """The numbers (..., m) from summed rows of `matrix` (..., k); NaN where nothing counts."""
        m = len(self.paths)
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Floats = sums[..., :m] / sums[..., m : 2 * m]
        if self.grams is None:
            return means
        return np.concatenate([means, corpus_bleu(sums[..., 2 * m :])[..., None]], axis=-1)


def add_up(
    scored: Scored,
    shared: Shared,
    *,
    unseen: frozenset[str] | None = None,
    common: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Sums:
    """The sums of one row, averaged over its seeds.

    `unseen`: kinds of rewording that no model was trained on; None where that is not known.
    `common`: metric -> which scores count, (G,) or (n,), for a paired difference: only what both
    rows scored. Parts that depend on a row's own answers are then left out.
    """
    by_seed = [list(_parts(own, shared, unseen, common)) for own in scored.seeds.values()]
    grams = [own.accuracy["bleu"] for own in scored.seeds.values() if "bleu" in own.accuracy]
    return averaged(by_seed, len(shared.questions), _placed(grams, shared) if grams else None)


def averaged(
    by_seed: Sequence[Sequence[Part]], questions: int, grams: Floats | None = None
) -> Sums:
    """The sums of several seeds, of the same parts each, averaged."""
    return Sums(
        [path for path, _, _ in by_seed[0]],
        _columns([[n for _, n, _ in seed] for seed in by_seed], questions),
        _columns([[d for _, _, d in seed] for seed in by_seed], questions),
        grams,
    )


def _columns(seeds: Sequence[Sequence[Floats]], questions: int) -> Floats:
    """(seeds, m) vectors of length `questions` to their mean over seeds, (questions, m)."""
    if not seeds[0]:
        return np.zeros((questions, 0))
    columns: Floats = np.mean([np.column_stack(own) for own in seeds], axis=0)
    return columns


def _placed(grams: Sequence[Floats], shared: Shared) -> Floats:
    placed = np.zeros((len(shared.questions), BLEU_STATISTICS))
    placed[_referenced(shared)] = np.mean(grams, axis=0)
    return placed


def _referenced(shared: Shared) -> Ints:
    """The indices of the questions that have a reference."""
    return np.array([q in shared.references for q in shared.questions], np.bool_).nonzero()[0]


def _parts(
    own: SeedScores,
    shared: Shared,
    unseen: frozenset[str] | None,
    common: Mapping[str, NDArray[np.bool_]] | None,
) -> Iterator[Part]:
    """Every number of a row under one seed."""

    def mean(path: Path, scores: Floats, owner: Ints, mask: NDArray[np.bool_]) -> Part:
        return mean_of(path, scores, owner, mask, len(shared.questions))

    for name, scores in own.accuracy.items():
        if scores.ndim == 1:
            yield mean((name,), scores, _referenced(shared), _counts(name, scores, common))
    for name, scores in own.pairs.items():
        counts = _counts(name, scores, common)
        for path, mask in _subsets(own, shared, unseen, common is None):
            yield mean((*path, name), scores, shared.owner, mask & shared.star & counts)
        if name != JUDGE:  # it knows only the pairs with the original
            yield _of_group("group", name, scores, counts, shared)
            yield _of_group("worst", name, scores, counts, shared)
    if common is None:
        for name, scores in own.floor.items():
            yield mean(("noise_floor", name), scores, own.floor_owner, ~np.isnan(scores))


def mean_of(
    path: Path, scores: Floats, owner: Ints, mask: NDArray[np.bool_], questions: int
) -> Part:
    """The mean of the scores (G,) where `mask` (G,); `owner` (G,) is the question of each."""
    total = np.bincount(owner, np.where(mask, scores, 0.0), questions)
    held = np.bincount(owner, mask, questions)
    return path, np.asarray(total, np.float64), np.asarray(held, np.float64)


def _counts(
    name: str, scores: Floats, common: Mapping[str, NDArray[np.bool_]] | None
) -> NDArray[np.bool_]:
    return ~np.isnan(scores) if common is None else common[name]


def _subsets(
    own: SeedScores, shared: Shared, unseen: frozenset[str] | None, by_answers: bool
) -> Iterator[tuple[Path, NDArray[np.bool_]]]:
    """Which pairs (G,) each number is over, before those without a score are taken out."""
    yield (), np.ones(len(shared.owner), np.bool_)
    kinds = sorted(set(shared.types[shared.star].tolist()))
    for kind in kinds:
        yield ("by_type", kind), shared.types == kind
    if unseen is not None and unseen & set(kinds):
        yield ("unseen",), np.isin(shared.types, sorted(unseen))
    if not by_answers:
        return
    least = 0
    for name, most in LENGTHS.items():
        longer = own.words > least if least else np.ones(len(own.words), np.bool_)
        yield ("by_length", name), longer if most is None else longer & (own.words <= most)
        least = most or least
    for index, name in enumerate(RETRIEVAL):
        yield ("by_retrieval", name), own.retrieval == index


def _of_group(
    path: str, name: str, scores: Floats, counts: NDArray[np.bool_], shared: Shared
) -> Part:
    """`group`: the mean of all pairs of wordings of a question; `worst`: the least of them.

    Every question with a scored pair counts once, however many wordings it has.
    """
    questions = len(shared.questions)
    held = np.bincount(shared.owner, counts, questions)
    defined = held > 0
    if path == "group":
        total = np.bincount(shared.owner, np.where(counts, scores, 0.0), questions)
        values = np.divide(total, held, out=np.zeros(questions), where=defined)
    else:
        values = np.full(questions, np.inf)
        np.minimum.at(values, shared.owner, np.where(counts, scores, np.inf))
        values[~defined] = 0.0
    return (path, name), values, defined.astype(np.float64)


def nested(estimates: Estimates, sums: Sums, blank: Mapping[str, None]) -> dict[str, Any]:
    """The numbers of a row with their intervals, nested by path; parts with no pair left out.

    `blank`: the metrics that a part names even where they are not scored.
    """
    row: dict[str, Any] = {"ci": {}}
    pairs = sums.denominators.sum(axis=0)
    for index, path in enumerate(sums.names):
        if len(path) > 1 and estimates.value(index) is None:
            continue
        part = row
        for step in path[:-1]:
            part = part.setdefault(step, {})
        if len(path) > 1 and not part:
            part.update(blank)
        part[path[-1]] = estimates.value(index)
        part.setdefault("ci", {})[path[-1]] = estimates.interval(index)
        if len(path) > 1:
            part["n"] = max(part.get("n", 0), int(estimates.clusters[index]))
        if len(path) > 1 and path[0] not in {"group", "worst"}:
            part["pairs"] = max(part.get("pairs", 0), round(float(pairs[index])))
    return row

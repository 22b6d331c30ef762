"""How far the retriever finds the same passages for a rewording as for its original (C_ret)."""

from collections.abc import Collection, Mapping
from functools import lru_cache

import numpy as np

from accord.evaluate.answers import Shared
from accord.evaluate.metrics import Floats
from accord.rankings import jaccard, rbo, same_first, same_set
from accord.records import Answer

RANKINGS = ("jaccard", "rbo", "same_first", "same_set")
HITS = ("hit_original", "hit_variation", "hits_kept")

Gold = Mapping[str, Collection[str]]  # id of a question -> ids of its gold passages


def agreement(own: Mapping[str, Answer], shared: Shared, gold: Gold | None) -> dict[str, Floats]:
    """Scores (G,) by name over `Shared`'s pairs; empty where no passages are known at all.

    NaN for pairs of two variations and for pairs where neither wording has passages. Where gold
    passages are known: whether the original and whether the variation has one of them, and, only
    where the original has, whether the variation has too.
    """
    star = shared.star.nonzero()[0].tolist()
    found = [(own[shared.first[i]].passages, own[shared.second[i]].passages) for i in star]
    known = [(i, a, b) for i, (a, b) in zip(star, found, strict=True) if a or b]
    if not known:
        return {}
    places = [i for i, _, _ in known]
    columns = np.array([_alike(a, b) for _, a, b in known])
    scores = {name: _spread(shared, places, columns[:, k]) for k, name in enumerate(RANKINGS)}
    hits = [
        (i, *(not wanted.isdisjoint(own) for own in (a, b)))
        for i, a, b in known
        if (wanted := set((gold or {}).get(shared.questions[shared.owner[i]], ())))
    ]
    if hits:
        where = [i for i, _, _ in hits]
        first, second = np.array([h[1:] for h in hits], np.float64).T
        kept = np.where(first > 0, second, np.nan)
        scores |= {
            name: _spread(shared, where, values)
            for name, values in zip(HITS, (first, second, kept), strict=True)
        }
    return scores


@lru_cache(2**15)
def _alike(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[float, ...]:
    """The scores of RANKINGS; rows of one table mostly share their retriever, so they repeat."""
    return jaccard(a, b), rbo(a, b), same_first(a, b), same_set(a, b)


def _spread(shared: Shared, places: list[int], values: Floats) -> Floats:
    every = np.full(len(shared.owner), np.nan)
    every[places] = values
    return every

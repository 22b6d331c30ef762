"""Masked containment: whether the longer answer holds what the shorter one says."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from accord.evaluate.guard import conflict
from accord.evaluate.metrics import Floats
from accord.evaluate.words import STOP_WORDS, singular, words
from accord.registry import register

_CACHED = 256  # texts: pairs come sorted, so that a text is soon met again or not at all


@register("metrics", "containment")
def containment(
    first: Sequence[str], second: Sequence[str], *, queries: Sequence[str], guard: bool = True
) -> Floats:
    """Content words of the shorter answer that the longer one has too, shape (N,), in [0, 1].

    |A & B| / min(|A|, |B|), the overlap coefficient of A and B: the sets of words of the answers,
    case-folded and without the ending of a plural (Harman 1991), less the stop words and the words
    of `queries`, which any answer repeats. So an answer is not marked down for saying more, as
    word recall does for an answer that holds the reference (Adlakha et al. 2024). Equal texts
    score 1. NaN where texts differ and either side has no such words. `guard`: 0 where the two
    answers cannot be equivalent (`guard.conflict`), whatever words they share.
    """
    content = lru_cache(_CACHED)(_content)
    masked = lru_cache(_CACHED)(_all_words)
    scores = np.ones(len(first))
    for row, (a, b, query) in enumerate(zip(first, second, queries, strict=True)):
        if a == b:
            continue
        if guard and conflict(a, b, query):
            scores[row] = 0.0
        else:
            asked = masked(query)
            scores[row] = _overlap(content(a) - asked, content(b) - asked)
    return scores


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    smaller = min(len(a), len(b))
    return len(a & b) / smaller if smaller else float("nan")


def _all_words(text: str) -> frozenset[str]:
    return frozenset(map(singular, words(text)))


def _content(text: str) -> frozenset[str]:
    return frozenset(map(_content_word, words(text))) - {""}


@lru_cache(2**16)
def _content_word(word: str) -> str:
    """The singular of a word, "" for a stop word."""
    return "" if word in STOP_WORDS else singular(word)

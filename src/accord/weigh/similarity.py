"""Similarity matrices of T queries from their features [T, D], as components.

The paper does not say which similarity it means. Cosine is the usual reading, but in deep layers
of language models all cosines are near 1, so distances hardly differ between models. Standardising
every feature over the development set first removes what all queries share.
"""

import numpy as np
from numpy.typing import NDArray

from accord.registry import register

Features = NDArray[np.float64]


@register("similarities", "cosine")
def cosine(features: Features) -> NDArray[np.float64]:
    """Cosine of the features as they are: [T, D] -> [T, T] (the usual reading of the paper)."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norms > 0, norms, 1.0)
    return unit @ unit.T


@register("similarities", "standardized")
def standardized(features: Features) -> NDArray[np.float64]:
    """Cosine after standardising every feature over the queries: [T, D] -> [T, T]."""
    spread = features.std(axis=0)
    return cosine((features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def distance(similarity: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """d_k^l = |S_k^l - S_r|: the mean absolute entry off the diagonal (equation 2).

    Needs at least two queries.
    """
    count = len(similarity)
    apart = np.abs(similarity - reference)
    return float((apart.sum() - np.trace(apart)) / (count * (count - 1)))

"""Weightings: from distances [K, L] to merge weights [K, L], as components (section 3.3)."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from accord.registry import register


@register("weightings", "paper")
def paper(
    distances: NDArray[np.float64], *, a: float = 2.0, b: float = -1.0
) -> NDArray[np.float64]:
    """Algorithm 1: w = sigmoid(a * r + b), r the model's share of closeness in its layer."""
    closeness = distances.max(axis=0) - distances  # dt_k = max_j d_j - d_k        (equation 3)
    total = closeness.sum(axis=0)  # [L]
    # All models equally far: no one has a larger share (our choice; the paper divides by 0).
    equal = np.full_like(closeness, 1.0 / len(distances))
    share = np.divide(closeness, total, out=equal, where=total > 0)  # r_k = dt_k / sum_j dt_j
    weights: NDArray[np.float64] = 1 / (1 + np.exp(-(a * share + b)))  # sigmoid   (equation 4)
    return weights


@register("weightings", "uniform")
def uniform(
    distances: NDArray[np.float64], *, total: Annotated[float, Field(gt=0)] = 1.0
) -> NDArray[np.float64]:
    """Every model the same weight in every layer; the weights of a layer sum to `total`."""
    return np.full(distances.shape, total / len(distances))

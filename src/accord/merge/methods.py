"""Merge methods: pure functions of the specialists' deltas, one for each published variant.

A method is a function

    @register("methods", "dare_ties")
    def dare_ties(deltas, weights, masks, *, density=0.8, ...) -> NDArray[np.float32]

that gives the change to the base model for n elements of one tensor: `deltas` are K float32
arrays [n], specialist minus base, in the order of the models' labels; `weights` the K merge
weights of that tensor's layer; `masks` K functions from a density to a bool array [n]. It may
overwrite `deltas`. Keyword-only parameters with a default are the options of a config.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from accord.merge.masks import kept_share
from accord.registry import register

Floats = NDArray[np.float32]
Mask = Callable[[float], NDArray[np.bool_]]
Method = Callable[[Sequence[Floats], Sequence[float], Sequence[Mask]], Floats]  # options bound


@register("methods", "dare_ties")
def dare_ties(
    deltas: Sequence[Floats],
    weights: Sequence[float],
    masks: Sequence[Mask],
    *,
    density: Annotated[float, Field(gt=0, le=1)] = 0.8,
    elect: Literal["unweighted", "weighted"] = "unweighted",
    normalize: bool = False,
) -> Floats:
    """Drop and rescale each delta, elect a sign for each parameter, add up what agrees.

    Paper, equation 5: DARE (arXiv 2311.03099) gives d_k, TIES (arXiv 2306.01708) elects the sign
    s. `unweighted`: s = sign(sum_k d_k). `weighted`, as mergekit does: s = sign(sum_k w_k d_k). A
    tie counts as +. The change is the sum of w_k d_k over the models of sign s; `normalize`
    divides it by the sum of their weights. Raises InputError for a density outside (0, 1].
    """
    dropped = [
        _dare(delta, mask(density), density) for delta, mask in zip(deltas, masks, strict=True)
    ]
    weighted = [d * np.float32(w) for d, w in zip(dropped, weights, strict=True)]  # w_k d_k
    votes = dropped if elect == "unweighted" else weighted
    positive = _sum(votes) >= 0  # s; a tie counts as +
    change = np.zeros_like(dropped[0])
    divisor = np.zeros_like(change) if normalize else None
    for weight, vote, term in zip(weights, votes, weighted, strict=True):
        # A dropped element has no sign, so it agrees with neither.
        agrees = ((vote > 0) == positive) & (vote != 0)
        term *= agrees
        change += term
        if divisor is not None:
            divisor += agrees * np.float32(weight)
    if divisor is not None:
        divisor[np.abs(divisor) < 1e-8] = 1  # nobody agrees: the change is 0 already
        change /= divisor
    return change


def _dare(delta: Floats, mask: NDArray[np.bool_], density: float) -> Floats:
    """d_k: `delta`, in place, with what the mask drops set to 0 and the rest rescaled."""
    if density < 1:
        delta *= mask
        delta *= np.float32(1 / kept_share(density))
    return delta


def _sum(terms: Sequence[Floats]) -> Floats:
    """In the given order, which is that of the labels: float addition is not associative."""
    total = terms[0].copy()
    for term in terms[1:]:
        total += term
    return total

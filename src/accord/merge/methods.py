"""Merge methods: pure functions, one for each published variant, from a tensor to a `Blend`.

A method is a function

    @register("methods", "dare_ties")
    def dare_ties(tensor, *, density=0.8, ...) -> Blend

that says what is to become of the elements of one tensor: its models' weights, what is dropped, how
the rest is rescaled and who agrees (`blend`, which does it). What has to be known of the whole
tensor first it asks of `tensor`. Keyword-only parameters with a default are the options of a
config; `density`, `gamma` and `epsilon` may also come as one number for each model. Throughout,
delta_k = theta_k - theta_base and w_k is the merge weight of model k in the tensor's layer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from accord.errors import InputError
from accord.merge.blend import Blend, Ranked, Span
from accord.merge.headers import LARGEST
from accord.merge.masks import LEVELS, kept_share, threshold
from accord.registry import register

Share = Annotated[float, Field(gt=0, le=1)]
Finite = Annotated[float, Field(ge=-LARGEST["F32"], le=LARGEST["F32"])]
Elect = Literal["unweighted", "weighted"]


class Tensor(Protocol):
    """One tensor of base and K models."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def weights(self) -> tuple[float, ...]:
        """[K]; empty where the method takes none."""

    @property
    def models(self) -> int:
        """K."""

    @property
    def size(self) -> int:
        """Elements."""

    def spans(self, ranks: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
        """The magnitudes of each delta_k at its ranks [first, last) in ascending order."""

    def kept_norms(self, spans: Sequence[Span]) -> Sequence[float]:
        """The share of each delta_k's L1 norm that its span keeps."""

    def products(self) -> Sequence[Sequence[float]]:
        """Dot products of theta_base, delta_1 ... delta_K, [K + 1][K + 1]."""


@register("methods", "dare_ties")
def dare_ties(
    tensor: Tensor,
    *,
    density: Share = 0.8,
    elect: Elect = "unweighted",
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Finite = 1.0,
) -> Blend:
    """Drop and rescale each delta, elect a sign for each parameter, add up what agrees.

    Paper, equation 5: DARE (arXiv 2311.03099) gives d_k, TIES (arXiv 2306.01708) elects the sign
    s. `unweighted`: s = sign(sum_k d_k). `weighted`, as mergekit does: s = sign(sum_k w_k d_k). A
    tie counts as +. The change is the sum of w_k d_k over the models of sign s; `normalize`
    divides it by the sum of their weights.
    """
    return _dare(tensor, density, rescale, elect, normalize, lambda_)


@register("methods", "dare_linear")
def dare_linear(
    tensor: Tensor,
    *,
    density: Share = 0.8,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Finite = 1.0,
) -> Blend:
    """Drop and rescale each delta, add them up: theta_base + sum_k w_k d_k (arXiv 2311.03099)."""
    return _dare(tensor, density, rescale, "none", normalize, lambda_)


@register("methods", "task_arithmetic")
def task_arithmetic(tensor: Tensor, *, normalize: bool = False, lambda_: Finite = 1.0) -> Blend:
    """Add up the deltas: theta_base + sum_k w_k delta_k (arXiv 2212.04089, section 2)."""
    return _dare(tensor, 1.0, True, "none", normalize, lambda_)


@register("methods", "ties")
def ties(
    tensor: Tensor,
    *,
    density: Share = 0.8,
    elect: Elect = "unweighted",
    normalize: bool = False,
    rescale: bool = False,
    lambda_: Finite = 1.0,
) -> Blend:
    """Keep the largest magnitudes of each delta, elect a sign, add up what agrees.

    TIES (arXiv 2306.01708, section 3): d_k keeps the `density` n largest elements of delta_k;
    election and sum as in `dare_ties`. The paper's mean over those that agree is `normalize` with
    equal weights. `rescale` restores the L1 norm of delta_k.
    """
    kept = [max(1, int(share * tensor.size)) for share in _each(tensor, density)]
    ranks = [(tensor.size - count, tensor.size) for count in kept]
    return _trimmed(tensor, ranks, rescale, elect, normalize, lambda_)


@register("methods", "breadcrumbs")
def breadcrumbs(
    tensor: Tensor,
    *,
    density: Share = 0.8,
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.01,
    normalize: bool = False,
    rescale: bool = False,
    lambda_: Finite = 1.0,
) -> Blend:
    """Drop the largest `gamma` and the smallest elements of each delta, add up the rest.

    Model Breadcrumbs (arXiv 2312.06795, section 3): `density` n elements are kept, those below the
    gamma n largest; fewer of the largest are dropped where that leaves too few.
    """
    ranks = []
    for share, top in zip(_each(tensor, density), _each(tensor, gamma), strict=True):
        kept = max(1, int(share * tensor.size))
        first = max(0, tensor.size - kept - int(top * tensor.size))
        ranks.append((first, first + kept))
    return _trimmed(tensor, ranks, rescale, "none", normalize, lambda_)


@register("methods", "della")
def della(
    tensor: Tensor,
    *,
    density: Share = 0.8,
    epsilon: Annotated[float, Field(ge=0, lt=0.5)] = 0.1,
    elect: Elect = "unweighted",
    normalize: bool = False,
    lambda_: Finite = 1.0,
) -> Blend:
    """Keep the larger elements of a row more often, rescale each, elect a sign, add up.

    DELLA (arXiv 2406.11617, section 3): the chance of being kept rises with the rank of the
    magnitude in its row from density - epsilon to density + epsilon, and what is kept is divided
    by it; election and sum as in `dare_ties`. At density 1 nothing is dropped.
    """
    densities, epsilons = _each(tensor, density), _each(tensor, epsilon)
    for share, epsilon in zip(densities, epsilons, strict=True):
        if share < 1 and (share <= epsilon or share + epsilon >= 1):
            raise InputError(
                f"merge.epsilon: density {share} +- epsilon {epsilon} leaves (0, 1); make epsilon "
                "smaller"
            )
    spread = tuple(0.0 if d == 1 else e for d, e in zip(densities, epsilons, strict=True))
    width = tensor.shape[-1] if tensor.shape else 1
    all_kept = (LEVELS,) * tensor.models
    return Blend(
        tensor.weights,
        all_kept,
        (1.0,) * tensor.models,
        ranked=Ranked(densities, spread, width),
        elect=elect,
        normalize=normalize,
        scale=lambda_,
    )


@register("methods", "linear")
def linear(tensor: Tensor, *, normalize: bool = True) -> Blend:
    """The weighted mean of the models: sum_k w_k theta_k / sum_k w_k (arXiv 2203.05482).

    Without `normalize` the sum itself. The base is one of the models only if it is given as one.
    """
    total = math.fsum(tensor.weights)
    if tensor.weights and normalize and abs(total) < 1e-8:
        raise InputError(
            "merge: the weights of a linear merge add up to 0; their mean is undefined"
        )
    by = total if normalize and tensor.weights else 1.0
    # sum_k w_k theta_k = sum_k w_k delta_k + (sum_k w_k) theta_base
    weights = tuple(w / by for w in tensor.weights)
    return _sum(tensor, weights, shift=0.0 if normalize else total - 1)


@register("methods", "slerp")
def slerp(tensor: Tensor) -> Blend:
    """Interpolate on the arc from the base to one model, its weight being t.

    Shoemake 1985: sin((1-t) o)/sin(o) theta_base + sin(t o)/sin(o) theta_1, o the angle between
    them as vectors; linear where they are nearly parallel (|cos o| > .9995).
    """
    if tensor.models != 1:
        raise InputError(
            f"merge.method: slerp takes one model beside the base, not {tensor.models}"
        )
    if not tensor.weights:
        raise InputError("merge.method: slerp wants a weight of the model; give `layer_weights`")
    t = tensor.weights[0]
    (bb, bd), (_, dd) = tensor.products()
    norms = math.sqrt(bb) * math.sqrt(max(bb + 2 * bd + dd, 0.0))
    cosine = max(-1.0, min(1.0, (bb + bd) / norms)) if norms > 0 else 1.0
    if abs(cosine) > 0.9995:
        one, other = 1 - t, t
    else:
        angle = math.acos(cosine)
        one, other = (math.sin(x * angle) / math.sin(angle) for x in (1 - t, t))
    return _sum(tensor, (other,), shift=one + other - 1)


@register("methods", "model_stock")
def model_stock(tensor: Tensor) -> Blend:
    """Towards the mean of the models, as far as the angle between their deltas says.

    Model Stock (arXiv 2403.19522, section 4): t = K cos / (1 + (K - 1) cos), cos the mean cosine
    of two deltas; theta = t mean_k theta_k + (1 - t) theta_base. It takes no weights.
    """
    if tensor.weights:
        raise InputError("merge.method: model_stock takes no weights; leave `layer_weights` out")
    if tensor.models < 2:
        raise InputError("merge.method: model_stock wants two models or more")
    grams = tensor.products()
    norms = [math.sqrt(grams[k][k]) for k in range(1, tensor.models + 1)]
    cosines = [
        max(-1.0, min(1.0, grams[i][j] / max(norms[i - 1] * norms[j - 1], 1e-6)))
        for i in range(1, tensor.models + 1)
        for j in range(i + 1, tensor.models + 1)
    ]
    cosine = math.fsum(cosines) / len(cosines)
    below = 1 + (tensor.models - 1) * cosine
    t = tensor.models * cosine / below if abs(below) >= 1e-6 else 0.0
    return _sum(tensor, (t / tensor.models,) * tensor.models)


def exempt(method: Callable[[Tensor], Blend], tensor: Tensor) -> Blend:
    """What `method` says, but nothing is dropped: for norms and biases."""
    return replace(
        method(tensor),
        levels=(LEVELS,) * tensor.models,
        factors=(1.0,) * tensor.models,
        spans=None,
        ranked=None,
    )


def _sum(tensor: Tensor, weights: tuple[float, ...], **more: Any) -> Blend:
    return Blend(weights, (LEVELS,) * tensor.models, (1.0,) * tensor.models, **more)


def _dare(
    tensor: Tensor,
    density: float,
    rescale: bool,
    elect: Literal["none", "unweighted", "weighted"],
    normalize: bool,
    scale: float,
) -> Blend:
    """DARE: each element is dropped with chance 1 - density, the rest rescaled by its inverse."""
    densities = _each(tensor, density)
    return Blend(
        tensor.weights,
        tuple(threshold(share) for share in densities),
        tuple(1 / kept_share(share) if rescale else 1.0 for share in densities),
        elect=elect,
        normalize=normalize,
        scale=scale,
    )


def _trimmed(
    tensor: Tensor,
    ranks: Sequence[tuple[int, int]],
    rescale: bool,
    elect: Literal["none", "unweighted", "weighted"],
    normalize: bool,
    scale: float,
) -> Blend:
    """Only the magnitudes at `ranks` of each delta are kept."""
    spans = tensor.spans(ranks)
    factors = [1.0] * tensor.models
    if rescale:
        factors = [1 / share if share > 0 else 1.0 for share in tensor.kept_norms(spans)]
    return Blend(
        tensor.weights,
        (LEVELS,) * tensor.models,
        tuple(factors),
        spans,
        elect=elect,
        normalize=normalize,
        scale=scale,
    )


def _each(tensor: Tensor, value: float | Sequence[float]) -> tuple[float, ...]:
    """One number for each model."""
    return (value,) * tensor.models if isinstance(value, (int, float)) else tuple(value)

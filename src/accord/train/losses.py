"""The second term of the training loss, by name: L = L_CE + what the function here returns.

A loss is one function. The keyword parameters without default say what an example has to come with:
`triplets` (a positive and a negative query, drawn among its neighbours) or `pairs` (another wording
of its question). It returns one value for each of them, weighted by its `alpha`; the trainer takes
their mean over the examples of the global batch. `ce` returns nothing: cross-entropy alone.
"""

from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from accord.errors import InputError
from accord.registry import component, register

if TYPE_CHECKING:
    from torch import Tensor

    from accord.train.views import Pairs, Triplets
else:  # the hints of a component's options are read while no torch is loaded
    Tensor = Pairs = Triplets = Any

Distance = Literal["squared_l2", "l2", "cosine"]
Alpha = Annotated[float, Field(ge=0)]
Margin = Annotated[float, Field(gt=0)]
GIVEN = ("triplets", "pairs")


@register("losses", "ce")
def ce() -> None:
    """Cross-entropy on the answer tokens alone."""


@register("losses", "triplet")
def triplet(
    *,
    triplets: Triplets,
    alpha: Alpha = 0.1,
    margin: Margin = 0.5,
    distance: Distance = "squared_l2",
    pool: Literal["mean", "last"] = "mean",
    reads: Literal["query", "prompt"] = "query",
    normalize: bool = True,
) -> Tensor:
    """Triplet: a query nearer to one of its 10 nearest than to one of its 10 farthest (eq. 1).

    `pool`, `reads` and `normalize` are f: which hidden states of the last layer, of the bare query
    or of the whole prompt, and whether to unit length.
    """
    from accord.models import losses

    anchor, positive, negative = triplets.embed(reads, pool, normalize=normalize)
    return alpha * losses.triplet(anchor, positive, negative, margin, distance)


@register("losses", "batch_hard")
def batch_hard(
    *,
    triplets: Triplets,
    alpha: Alpha = 0.1,
    margin: Margin = 0.5,
    distance: Distance = "squared_l2",
    pool: Literal["mean", "last"] = "mean",
    reads: Literal["query", "prompt"] = "query",
    normalize: bool = True,
) -> Tensor:
    """Triplet with the hardest negative among all queries read together (Hermans et al. 2017)."""
    import torch

    from accord.models import losses

    branches = triplets.embed(reads, pool, normalize=normalize)
    everyone = torch.cat(branches)
    # The drawn negative is always among them, so every anchor has one.
    found = everyone[losses.hardest(branches[0], everyone, triplets.apart(), distance)]
    return alpha * losses.triplet(branches[0], branches[1], found, margin, distance)


@register("losses", "pair")
def pair(
    *,
    pairs: Pairs,
    alpha: Alpha = 1.0,
    divergence: Literal["js", "kl"] = "js",
) -> Tensor:
    """Two wordings of a question: divergence of what is said next, over the answer (PPCL)."""
    from accord.models import losses

    first, second = pairs.logits()
    return alpha * pairs.mean(losses.divergence(first, second, divergence))


def needs(name: str) -> str | None:
    """What the examples of a loss come with: `triplets`, `pairs` or nothing.

    Raises InputError for a loss that asks for anything else, or for both.
    """
    function = component("losses", name, "train.loss").function
    asked = [
        p.name
        for p in signature(function).parameters.values()
        if p.kind is Parameter.KEYWORD_ONLY and p.default is Parameter.empty
    ]
    if len(asked) > 1 or not set(asked) <= set(GIVEN):
        raise InputError(
            f"train.loss: loss `{name}` asks for {', '.join(f'`{a}`' for a in asked)}; it may ask "
            "for `triplets` or for `pairs`"
        )
    return asked[0] if asked else None


def second_term(name: str, options: dict[str, Any], views: dict[str, Any]) -> Tensor | None:
    """What the loss `name` adds for each of its examples, [N]; None for cross-entropy alone."""
    value: Tensor | None = component("losses", name, "train.loss").function(**views, **options)
    return value

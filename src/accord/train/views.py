"""What a loss may look at of one micro-batch: triplets to embed, pairs of answer distributions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accord.models import losses
from accord.train.examples import Example

Ids = Sequence[int]
Read = Callable[[Sequence[Ids]], tuple[Tensor, Tensor]]  # sequences -> states [n, D], owner [n]


@dataclass(frozen=True)
class Triplets:
    """Anchors, positives and negatives, N of each."""

    branches: tuple[tuple[Example, ...], ...]
    read: Read

    def embed(
        self, reads: Literal["query", "prompt"], pool: losses.Pool, *, normalize: bool
    ) -> tuple[Tensor, ...]:
        """f of anchors, positives, negatives, [N, D] each, in one forward pass.

        All three branches carry gradient. `reads`: the bare query, or the prompt.
        """
        everyone = [one for branch in self.branches for one in branch]
        hidden, owner = self.read([getattr(one, reads) for one in everyone])
        vectors = losses.embed(hidden, owner, len(everyone), pool, normalize=normalize)
        return tuple(vectors.chunk(3))

    def apart(self) -> Tensor:
        """Which of all 3N queries may be the negative of which anchor: [N, 3N].

        Neither another wording of its question nor the same string.
        """
        everyone = [one for branch in self.branches for one in branch]
        return torch.tensor(
            [
                [one.original != own.original and one.query != own.query for one in everyone]
                for own in self.branches[0]
            ]
        )


@dataclass(frozen=True)
class Pairs:
    """The answer's logits under a wording and under its partner.

    `first` and `second`: [n, V]; `owner`: [n], the example of each token; `count`: how many
    examples there are, those without a partner included.
    """

    first: Tensor
    second: Tensor
    owner: Tensor
    count: int

    def logits(self) -> tuple[Tensor, Tensor]:
        """Both sets of logits, [n, V] each: the same answer tokens in the same order."""
        return self.first, self.second

    def mean(self, values: Tensor) -> Tensor:
        """One value for each example, [N]: the mean over its answer tokens; 0 without partner."""
        sums = values.new_zeros(self.count).index_add(0, self.owner, values)
        return sums / torch.bincount(self.owner, minlength=self.count).clamp_min(1)

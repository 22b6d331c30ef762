"""Which examples are read together, in which process: planned from (seed, epoch) and lengths alone.

Unusual: no stream of random numbers and no sampler's state. The order of an epoch is a permutation
by (seed, epoch), a global batch is a slice of it, and its examples are dealt to micro-batches and
processes by length, which changes the padding and not the loss: every micro-batch knows how many
answer tokens and examples its global batch has. So a resumed run and one on other processes see the
same batches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sizes:
    """A global batch of so many examples, `micro` of them at once in each of `world` processes."""

    batch: int
    micro: int
    world: int = 1
    rank: int = 0

    @property
    def steps(self) -> int:
        """Micro-batches of a process in one global batch."""
        return -(-self.batch // (self.micro * self.world))


@dataclass(frozen=True)
class MicroBatch:
    """What one process reads at once.

    `rows`: examples whose answers are read, none where a last batch is too small for all processes;
    `second`: examples whose triplets are read beside them, None where none are due; `tokens` and
    `examples` of the whole global batch.
    """

    rows: tuple[int, ...]
    second: tuple[int, ...] | None
    tokens: int
    examples: int


def plan_epoch(
    lengths: Sequence[int],
    answers: Sequence[int],
    sizes: Sizes,
    *,
    seed: int,
    epoch: int,
    every: int = 1,
) -> list[MicroBatch]:
    """The micro-batches of one process in one epoch, `sizes.steps` for each but the last batch.

    Args:
        lengths: tokens of each example.
        answers: answer tokens of each.
        sizes: of batches, and which process of how many this is.
        every: triplets are read with every so many micro-batches, those of all of them at once: one
            more pass for a few short queries would cost more than they do.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths)).tolist()
    planned = []
    for start in range(0, len(order), sizes.batch):
        chosen = order[start : start + sizes.batch]
        tokens = sum(answers[row] for row in chosen)
        waiting: tuple[int, ...] = ()
        mine = _deal(chosen, lengths, sizes)
        for n, rows in enumerate(mine, start=1):
            waiting += rows
            due = n % every == 0 or n == len(mine)
            planned.append(MicroBatch(rows, waiting if due else None, tokens, len(chosen)))
            waiting = () if due else waiting
    return planned


def _deal(chosen: Sequence[int], lengths: Sequence[int], sizes: Sizes) -> list[tuple[int, ...]]:
    """This process's micro-batches: neighbours in length together, and as many as all others'."""
    ranked = sorted(chosen, key=lambda row: -lengths[row])  # stable
    parts = [tuple(ranked[i : i + sizes.micro]) for i in range(0, len(ranked), sizes.micro)]
    parts += [()] * (-len(parts) % sizes.world)
    return parts[sizes.rank :: sizes.world]


class Batches:
    """The plan as what torch calls a batch sampler; set `epoch` before each."""

    def __init__(
        self,
        lengths: Sequence[int],
        answers: Sequence[int],
        sizes: Sizes,
        *,
        seed: int,
        every: int = 1,
    ) -> None:
        self.lengths, self.answers, self.sizes = lengths, answers, sizes
        self.seed, self.every = seed, every
        self.epoch = 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.sizes.batch)
        # The last global batch may be smaller; its parts are still the same for all processes.
        return whole * self.sizes.steps + -(-rest // (self.sizes.micro * self.sizes.world))

    def __iter__(self) -> Iterator[MicroBatch]:
        yield from plan_epoch(
            self.lengths,
            self.answers,
            self.sizes,
            seed=self.seed,
            epoch=self.epoch,
            every=self.every,
        )


def how_often(lengths: Sequence[int], seconds: Sequence[int], steps: int) -> int:
    """`every` of a plan: so many micro-batches' triplets are about as long as one micro-batch.

    `lengths` and `seconds`: the tokens of each example, and of what its triplet reads.
    """
    return max(1, min(steps, sum(lengths) // max(1, sum(seconds))))

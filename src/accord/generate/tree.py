"""Prompts that begin alike as trees, laid out as flat rows of tokens.

The wordings of a question often come with the same passages, and a prompt has its passages first
and its question last: the prompts of such a group differ in their last tokens only. They are a
tree: a trunk, and a branch for each prompt.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Prompt = Sequence[int]
Group = Sequence[Prompt]
TOKENS_AT_ONCE = 4096  # in one forward pass over prompts, unless one tree alone has more


class Tree(NamedTuple):
    """A group in a flat row of tokens: from `start`, its trunk, then its branches.

    `branches`: (prompt, tokens) of each. `positions` (tokens,) go on from the trunk in each branch.
    """

    group: int
    start: int
    trunk: int
    branches: list[tuple[int, int]]
    positions: Tensor

    @property
    def size(self) -> int:
        """Tokens of trunk and branches."""
        return len(self.positions)

    def seen(self, window: int | None) -> Tensor:
        """(tokens, tokens): a token sees its own branch and the trunk, up to itself."""
        sizes = torch.tensor([self.trunk, *(tokens for _, tokens in self.branches)])
        branch = torch.arange(len(sizes)).repeat_interleave(sizes)
        seen = (branch[:, None] == branch) | (branch == 0)
        distance = self.positions[:, None] - self.positions
        seen &= distance >= 0
        return seen if window is None else seen & (distance < window)


class Part(NamedTuple):
    """The tokens of one forward pass; `last` is where each prompt of it ends."""

    ids: list[int]
    positions: list[int]
    last: list[int]
    trees: list[Tree]


def trunk_of(group: Group) -> int:
    """How many tokens all prompts of a group begin with; each keeps at least one of its own."""
    most = min(map(len, group)) - 1
    first = group[0]
    return next(
        (i for i in range(most) if any(prompt[i] != first[i] for prompt in group[1:])), most
    )


class Size(NamedTuple):
    """The size of a group: tokens of its trunk and of its longest branch, and prompts."""

    trunk: int
    branch: int
    prompts: int


def size_of(group: Group) -> Size:
    """The size of a group."""
    trunk = trunk_of(group)
    return Size(trunk, max(map(len, group)) - trunk, len(group))


def held_tokens(sizes: Sequence[Size], max_new_tokens: int) -> int:
    """The tokens whose keys and values are held for a batch of groups at most.

    Its buffers are as long as its longest trunk, and as its longest branch with an answer.
    """
    prompts = sum(size.prompts for size in sizes)
    longest = max(size.branch for size in sizes) + max_new_tokens
    return len(sizes) * max(size.trunk for size in sizes) + prompts * longest


def lay_out(groups: Sequence[Group], trunks: Sequence[int]) -> list[Part]:
    """The groups in order, as few forward passes as `TOKENS_AT_ONCE` allows."""
    parts: list[Part] = []
    prompt = 0
    for index, (group, trunk) in enumerate(zip(groups, trunks, strict=True)):
        size = trunk + sum(len(p) - trunk for p in group)
        if not parts or len(parts[-1].ids) + size > TOKENS_AT_ONCE:
            parts.append(Part([], [], [], []))
        _grow(parts[-1], index, group, trunk, prompt)
        prompt += len(group)
    return parts


def _grow(part: Part, index: int, group: Group, trunk: int, first: int) -> None:
    """Add a tree to a row."""
    start = len(part.ids)
    positions = list(range(trunk))
    part.ids.extend(group[0][:trunk])
    for prompt in group:
        part.ids.extend(prompt[trunk:])
        positions.extend(range(trunk, len(prompt)))
        part.last.append(len(part.ids) - 1)
    part.positions.extend(positions)
    branches = [(first + i, len(prompt) - trunk) for i, prompt in enumerate(group)]
    part.trees.append(Tree(index, start, trunk, branches, torch.tensor(positions)))

"""What has been computed of a batch of trees: the keys and values, and who goes on.

The keys of a trunk are kept once. The branches of all prompts end in the same column of their
buffers, so that the newest tokens are written side by side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from accord.generate.tree import Group, Part, Tree, lay_out, trunk_of

GROWTH = 32  # columns by which buffers grow: products with a slice of a longer buffer are slow
SHRINK = 0.8  # finished prompts are dropped when at most this share goes on


class Batch:
    """Groups of prompts, and what has been computed of them.

    `rows` are the prompts that go on, `groups` the groups they belong to. The branches of all rows
    end in the same column of their buffers, `column`, where the newest token is.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.trunks = [trunk_of(group) for group in groups]
        self.owner = [index for index, group in enumerate(groups) for _ in group]
        self.lengths = [
            len(p) - trunk for group, trunk in zip(groups, self.trunks, strict=True) for p in group
        ]
        self.rows, self.groups = list(range(len(self.owner))), list(range(len(groups)))
        self.column = max(self.lengths) - 1
        self.parts = lay_out(groups, self.trunks)
        self.reading: Part | None = None
        self.layers: dict[int, Layer] = {}
        self.masks: dict[Any, Any] = {}
        self._fold()

    def turn_to(self, part: Part | None) -> None:
        """Read this part of the prompts now; None: all are read."""
        self.reading = part
        self.masks.clear()

    def go_on(self, going: Sequence[int]) -> None:
        """Make room for one more token of each row; the rows not among `going` may be dropped."""
        if len(going) <= SHRINK * len(self.rows):
            self._keep(going)
        self.column += 1
        self.masks.clear()
        for layer in self.layers.values():
            layer.make_room(self.column)

    def layer(self, index: int, key: Tensor, value: Tensor) -> "Layer":
        """What is kept of a layer, whose new keys and values (1, h, tokens, d) are given."""
        if index not in self.layers:
            self.layers[index] = Layer(self, key, value)
        return self.layers[index]

    @property
    def positions(self) -> list[int]:
        """The position of the newest token of each row."""
        behind = self.column - max(self.lengths)
        return [self.trunks[self.owner[row]] + self.lengths[row] + behind for row in self.rows]

    def _keep(self, rows: Sequence[int]) -> None:
        groups = sorted({self.owner[row] for row in rows})
        at_rows = [self.rows.index(row) for row in rows]
        at_groups = [self.groups.index(group) for group in groups]
        for layer in self.layers.values():
            layer.keep(at_rows, at_groups)
        self.rows, self.groups = list(rows), groups
        self._fold()

    def _fold(self) -> None:
        """How rows are put together by group: `table` (groups, widest) of rows, `place` back."""
        members: list[list[int]] = [[] for _ in self.groups]
        number = {group: i for i, group in enumerate(self.groups)}
        for at, row in enumerate(self.rows):
            members[number[self.owner[row]]].append(at)
        widest = max(map(len, members))
        place = [0] * len(self.rows)
        for group, own in enumerate(members):
            for slot, at in enumerate(own):
                place[at] = group * widest + slot
        self.table = torch.tensor([own + [0] * (widest - len(own)) for own in members])
        self.place = torch.tensor(place)
        self.even = len(place) == self.table.numel()

    def by_group(self, x: Tensor) -> Tensor:
        """(rows, heads, r, d) to (groups, heads, widest * r, d)."""
        groups, widest = self.table.shape
        if not self.even:
            x = x[self.table.reshape(-1).to(x.device)]
        _, heads, repeats, size = x.shape
        x = x.view(groups, widest, heads, repeats, size).transpose(1, 2)
        return x.reshape(groups, heads, widest * repeats, size)

    def by_row(self, x: Tensor) -> Tensor:
        """The inverse of `by_group`."""
        groups, widest = self.table.shape
        _, heads, folded, size = x.shape
        repeats = folded // widest
        x = x.view(groups, heads, widest, repeats, size).transpose(1, 2)
        x = x.reshape(groups * widest, heads, repeats, size)
        return x if self.even else x[self.place.to(x.device)]

    def hidden(self, like: Tensor, window: int | None, columns: int) -> tuple[Tensor, Tensor]:
        """0, or -inf where a key is not seen: (groups, 1, 1 or widest, 1, t) for those of trunks,
        (rows, 1, 1, c) for those of branches.
        """
        if window not in self.masks:
            trunks = torch.tensor([self.trunks[group] for group in self.groups])
            lengths = torch.tensor([self.lengths[row] for row in self.rows])
            keys, own = torch.arange(max(self.trunks)), torch.arange(columns)
            trunk = (keys < trunks[:, None])[:, None, None, None]
            branch = (own <= self.column) & (own >= max(self.lengths) - lengths[:, None])
            if window is not None:
                newest = torch.tensor(self.positions)[self.table][:, None, :, None, None]
                trunk = trunk & (newest - keys < window)
                branch &= self.column - own < window
            self.masks[window] = shut(trunk, like), shut(branch[:, None, None], like)
        found: tuple[Tensor, Tensor] = self.masks[window]
        return found


def shut(seen: Tensor, like: Tensor) -> Tensor:
    """0 where `seen`, -inf elsewhere."""
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(~seen.to(like.device), float("-inf"))


class Layer:
    """Keys and values of one layer: of trunks (groups, h, t, d), of branches (rows, h, c, d)."""

    def __init__(self, batch: Batch, *new: Tensor) -> None:
        columns = max(batch.lengths) + GROWTH
        self.trunks = [
            x.new_zeros(len(batch.trunks), x.shape[1], max(batch.trunks), x.shape[3]) for x in new
        ]
        self.branches = [
            x.new_zeros(len(batch.lengths), x.shape[1], columns, x.shape[3]) for x in new
        ]
        self.end = max(batch.lengths)

    def read(self, tree: Tree, *new: Tensor) -> None:
        """Keep the keys and values (1, h, tokens, d) of a tree."""
        for x, trunks, branches in zip(new, self.trunks, self.branches, strict=True):
            trunks[tree.group, :, : tree.trunk] = x[0, :, : tree.trunk]
            start = tree.trunk
            for row, tokens in tree.branches:
                own = x[0, :, start : start + tokens]
                branches[row, :, self.end - tokens : self.end] = own
                start += tokens

    def write(self, column: int, *new: Tensor) -> None:
        """Keep the keys and values (1, h, rows, d) of the newest tokens."""
        for x, branches in zip(new, self.branches, strict=True):
            branches[:, :, column] = x[0].transpose(0, 1)

    def make_room(self, column: int) -> None:
        """Let the branches have a column of this number."""
        if column >= self.branches[0].shape[2]:
            self.branches = [functional.pad(x, (0, 0, 0, GROWTH)) for x in self.branches]

    def keep(self, rows: list[int], groups: list[int]) -> None:
        """Drop all other rows and groups."""
        self.branches = [x[rows] for x in self.branches]
        if len(groups) < len(self.trunks[0]):
            self.trunks = [x[groups] for x in self.trunks]

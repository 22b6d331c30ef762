"""Greedy decoding of groups of prompts that begin alike, each beginning computed once.

Prompts are read as trees (`tree`) in one flat row without padding, with a mask that lets a branch
see its trunk and itself. While answers are written, the keys of a trunk are kept once and read once
for all its branches (Juravsky et al. 2024, "Hydragen", section 3.1, with one softmax over the
joined scores).

What is unusual: the attention function owns the keys and values. transformers lets one be put in by
name, so the model's own code runs as it is, with its positions given and no cache of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from accord.generate.plain import Said
from accord.generate.tree import Group, Part, Tree, lay_out, trunk_of

NAME = "accord_shared_prefix"
GROWTH = 32  # columns by which buffers grow: products with a slice of a longer buffer are slow
SHRINK = 0.8  # finished prompts are dropped when at most this share goes on
_OTHER = ("softcap", "s_aux", "position_bias")  # what other kinds of attention are given


class UnsupportedError(Exception):
    """The model's attention is of a kind that is not computed here."""


def decode(
    model: Any, groups: Sequence[Group], *, max_new_tokens: int, ends: frozenset[int]
) -> list[Said]:
    """The answers to the prompts of all groups (token ids), in their order, greedily.

    Raises UnsupportedError for a model with another kind of attention.
    """
    batch = Batch(groups)
    said: list[list[int]] = [[] for _ in batch.rows]
    ended = [False] * len(said)
    with torch.inference_mode(), _attending(model, batch):
        logits = batch.read(model)
        for left in reversed(range(max_new_tokens)):
            tokens = dict(zip(batch.rows, _best(logits), strict=True))
            for row, token in tokens.items():
                ended[row] |= token in ends
                if not ended[row]:
                    said[row].append(token)
            going = [row for row in batch.rows if not ended[row]]
            if not going or not left:
                break
            logits = batch.write(model, tokens, going)
    return [Said(tokens, end) for tokens, end in zip(said, ended, strict=True)]


def can_share(model: Any) -> bool:
    """Whether the model's attention is computed here as the model itself computes it.

    Tried on a few tokens: a branch and its next token, against the model's own forward pass.
    """
    size = min(model.config.get_text_config().vocab_size, 512)
    ids = [(7 * i * i + 3 * i) % size for i in range(24)]
    prompts = [[*ids[:16], *ids[16 + n : 20 + 2 * n]] for n in range(3)]
    batch = Batch([prompts[:2], prompts[2:]])
    try:
        with torch.inference_mode(), _attending(model, batch):
            found = [batch.read(model), batch.write(model, dict(enumerate(ids)), batch.rows)]
    except (UnsupportedError, TypeError, ValueError, AttributeError, LookupError, RuntimeError):
        return False  # an architecture that does without such attention may fail in any of these
    with torch.inference_mode():
        own = [_own(model, [*prompt, ids[row]])[-2:] for row, prompt in enumerate(prompts)]
    wanted = torch.stack(own, dim=1)
    error = (torch.stack(found).float() - wanted).norm() / wanted.norm()
    return bool(error < (1e-3 if model.dtype == torch.float32 else 0.1))


def _own(model: Any, ids: Sequence[int]) -> Tensor:
    logits: Tensor = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
    return logits.float()


def _best(logits: Tensor) -> list[int]:
    """The first of the highest logits of each row; numpy finds it many times faster on a CPU."""
    if logits.device.type != "cpu":
        return [int(token) for token in logits.argmax(-1).tolist()]
    best: list[int] = logits.float().numpy().argmax(-1).tolist()
    return best


def _forward(
    model: Any, ids: Sequence[int], positions: Sequence[int], last: Sequence[int] | None = None
) -> Tensor:
    """The logits (tokens, vocabulary) of a flat row of tokens, of those at `last` alone."""

    def row(values: Sequence[int]) -> Tensor:
        return torch.tensor([values], device=model.device)

    kept = {} if last is None else {"logits_to_keep": row(last)[0]}
    logits: Tensor = model(
        input_ids=row(ids), position_ids=row(positions), use_cache=False, **kept
    ).logits[0]
    return logits


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
        self.layers: dict[int, _Layer] = {}
        self.masks: dict[Any, Any] = {}
        self._fold()

    def read(self, model: Any) -> Tensor:
        """The logits (rows, vocabulary) after each prompt."""
        found = []
        for part in self.parts:
            self.reading = part
            self.masks.clear()
            found.append(_forward(model, part.ids, part.positions, part.last))
        self.reading = None
        return torch.cat(found)

    def write(self, model: Any, tokens: Mapping[int, int], going: Sequence[int]) -> Tensor:
        """The logits (rows, vocabulary) after one more token in each row.

        The rows that are not among `going` may be dropped.
        """
        if len(going) <= SHRINK * len(self.rows):
            self._keep(going)
        self.column += 1
        self.masks.clear()
        for layer in self.layers.values():
            layer.make_room(self.column)
        return _forward(model, [tokens[row] for row in self.rows], self.positions)

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
        _, heads, _, size = x.shape
        x = x.view(groups, heads, widest, -1, size).transpose(1, 2)
        x = x.reshape(groups * widest, heads, -1, size)
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
            self.masks[window] = _shut(trunk, like), _shut(branch[:, None, None], like)
        found: tuple[Tensor, Tensor] = self.masks[window]
        return found


def _shut(seen: Tensor, like: Tensor) -> Tensor:
    """0 where `seen`, -inf elsewhere."""
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(~seen.to(like.device), float("-inf"))


class _Layer:
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


_attended: list[Batch] = []  # what the attention function works on; it is called by name


@contextmanager
def _attending(model: Any, batch: Batch) -> Iterator[None]:
    """Put the attention of this module into the model for a while."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    usual = model.config.get_text_config()._attn_implementation
    try:
        model.set_attn_implementation(NAME)
    except ValueError as error:
        raise UnsupportedError(str(error)) from None
    _attended.append(batch)
    try:
        yield
    finally:
        _attended.remove(batch)
        model.set_attn_implementation(usual)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention (1, tokens, heads, d) of queries (1, heads, tokens, d) over trees or their rows."""
    if any(others.get(name) is not None for name in _OTHER):
        raise UnsupportedError("soft caps, sinks and biases of attention are not computed here")
    batch = _attended[-1]
    if module.layer_idx not in batch.layers:
        batch.layers[module.layer_idx] = _Layer(batch, key, value)
    layer = batch.layers[module.layer_idx]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if batch.reading is not None:
        trees = batch.reading.trees
        heard = [_read(batch, layer, t, query, key, value, scale, sliding_window) for t in trees]
        return torch.cat(heard, 2).transpose(1, 2), None
    layer.write(batch.column, key, value)
    return _write(batch, layer, query, scale, sliding_window)[None], None


def _read(
    batch: Batch,
    layer: _Layer,
    tree: Tree,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None,
) -> Tensor:
    """Attention over a tree."""
    q, k, v = (x[:, :, tree.start : tree.start + tree.size] for x in (query, key, value))
    layer.read(tree, k, v)
    if (tree.start, window) not in batch.masks:
        plain = len(tree.branches) == 1 and (window is None or window >= tree.size)
        mask = None if plain else _shut(tree.seen(window), q)
        batch.masks[tree.start, window] = mask
    mask = batch.masks[tree.start, window]
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )


def _write(batch: Batch, layer: _Layer, query: Tensor, scale: float, window: int | None) -> Tensor:
    """Attention (rows, heads, d) of the newest token of each row over its trunk and branch."""
    (trunk_keys, trunk_values), (keys, values) = layer.trunks, layer.branches
    rows, heads = keys.shape[:2]
    groups, widest = batch.table.shape
    trunk_hidden, hidden = batch.hidden(query, window, keys.shape[2])
    q = query[0].transpose(0, 1).reshape(rows, heads, -1, query.shape[-1]) * scale
    far = batch.by_group(q) @ trunk_keys.transpose(-1, -2)
    far.view(groups, heads, widest, -1, far.shape[-1]).add_(trunk_hidden)
    near = (q @ keys.transpose(-1, -2)).add_(hidden)
    scores = torch.cat([batch.by_row(far), near], -1)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
    split = trunk_keys.shape[2]
    heard = batch.by_row(batch.by_group(weights[..., :split]) @ trunk_values)
    return (heard + weights[..., split:] @ values).reshape(rows, -1, values.shape[-1])

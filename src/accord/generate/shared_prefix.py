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

from accord.generate.memory import Batch, Layer, shut
from accord.generate.plain import Said
from accord.generate.tree import Group, Tree

NAME = "accord_shared_prefix"
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
        logits = _read_all(model, batch)
        for left in reversed(range(max_new_tokens)):
            tokens = dict(zip(batch.rows, _best(logits), strict=True))
            for row, token in tokens.items():
                ended[row] |= token in ends
                if not ended[row]:
                    said[row].append(token)
            going = [row for row in batch.rows if not ended[row]]
            if not going or not left:
                break
            logits = _write_all(model, batch, tokens, going)
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
            found = [
                _read_all(model, batch),
                _write_all(model, batch, dict(enumerate(ids)), batch.rows),
            ]
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


def _read_all(model: Any, batch: Batch) -> Tensor:
    """The logits (rows, vocabulary) after each prompt."""
    found = []
    for part in batch.parts:
        batch.turn_to(part)
        found.append(_forward(model, part.ids, part.positions, part.last))
    batch.turn_to(None)
    return torch.cat(found)


def _write_all(model: Any, batch: Batch, tokens: Mapping[int, int], going: Sequence[int]) -> Tensor:
    """The logits (rows, vocabulary) after one more token of each row that goes on."""
    batch.go_on(going)
    return _forward(model, [tokens[row] for row in batch.rows], batch.positions)


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
    layer = batch.layer(module.layer_idx, key, value)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if batch.reading is not None:
        trees = batch.reading.trees
        heard = [_read(batch, layer, t, query, key, value, scale, sliding_window) for t in trees]
        return torch.cat(heard, 2).transpose(1, 2), None
    layer.write(batch.column, key, value)
    return _write(batch, layer, query, scale, sliding_window)[None], None


def _read(
    batch: Batch,
    layer: Layer,
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
        mask = None if plain else shut(tree.seen(window), q)
        batch.masks[tree.start, window] = mask
    mask = batch.masks[tree.start, window]
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )


def _write(batch: Batch, layer: Layer, query: Tensor, scale: float, window: int | None) -> Tensor:
    """Attention (rows, heads, d) of the newest token of each row over its trunk and branch."""
    (trunk_keys, trunk_values), (keys, values) = layer.trunks, layer.branches
    rows, heads = keys.shape[:2]
    groups, widest = batch.table.shape
    trunk_hidden, hidden = batch.hidden(query, window, keys.shape[2])
    q = query[0].transpose(0, 1).reshape(rows, heads, -1, query.shape[-1]) * scale
    far = batch.by_group(q) @ trunk_keys.transpose(-1, -2)
    far.view(groups, heads, widest, q.shape[2], far.shape[-1]).add_(trunk_hidden)
    near = (q @ keys.transpose(-1, -2)).add_(hidden)
    scores = torch.cat([batch.by_row(far), near], -1)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
    split = trunk_keys.shape[2]
    heard = batch.by_row(batch.by_group(weights[..., :split]) @ trunk_values)
    return (heard + weights[..., split:] @ values).reshape(rows, -1, values.shape[-1])

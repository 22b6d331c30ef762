"""What a causal language model makes of sequences of tokens, read for training.

Two things are unusual. Rows are padded on the right and go without a mask: under causal attention
nothing real looks at what comes after it, in any architecture, and attention without a mask is the
fast one. And the head is handed the positions before answer tokens only, by a hook on its input, so
that no other logits exist; soft-capping and the like of the model's own code still apply.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from accord.errors import InputError
from accord.models.base import CausalLM, pad_right

Ids = Sequence[int]
WIDTH = 128  # tokens of a row of packed sequences, unless one is longer


def head_of(model: CausalLM, name: str) -> nn.Module:
    """The language-model head; raises InputError naming the model if it has none."""
    head = model.get_output_embeddings()
    if head is None:
        raise InputError(f"{name}: the model has no language-model head to train")
    found: nn.Module = head
    return found


def answer_logits(
    model: CausalLM, head: nn.Module, rows: Sequence[Ids], answers: Sequence[int], *, pad: int
) -> Tensor:
    """The logits that predict the last `answers[i]` tokens of `rows[i]`: [sum(answers), V].

    `model` may be wrapped for data parallelism; `head` is that of the model inside.
    """
    ids = pad_right(rows, pad).to(head.weight.device)
    width = ids.shape[1]
    at = torch.cat(
        [
            torch.arange(len(row) - count - 1, len(row) - 1) + n * width
            for n, (row, count) in enumerate(zip(rows, answers, strict=True))
        ]
    ).to(ids.device)

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].flatten(0, 1)[at].unsqueeze(0), *inputs[1:])

    with _hooked(head, before):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.squeeze(0)  # not logits[0], whose backward copies the whole gradient


def last_states(
    model: CausalLM,
    head: nn.Module | None,
    rows: Sequence[Ids],
    *,
    pad: int,
    packed: bool,
    where: torch.device,
) -> tuple[Tensor, Tensor]:
    """Hidden states after the last layer and norm of every token, and whose it is.

    Returns [n, D] and [n], the sequences in order, n the sum of their lengths. `packed` puts
    several short sequences into one row, where the model keeps them apart (`can_pack`). With `head`
    no gradient of it is formed. Without it the logits take part with a factor of 0: what shards a
    model brings its weights back where its outputs carry a gradient.
    """
    places = pack([len(row) for row in rows]) if packed else [(n, 0) for n in range(len(rows))]
    height = 1 + max(line for line, _ in places)
    width = max(start + len(row) for row, (_, start) in zip(rows, places, strict=True))
    ids = torch.full((height, width), pad)
    # Positions count from 0 in every sequence; what is left of a row is one more sequence.
    order = torch.arange(width).repeat(height, 1)
    for row, (line, start) in sorted(zip(rows, places, strict=True), key=lambda one: one[1]):
        ids[line, start : start + len(row)] = torch.tensor(row)
        order[line, start:] = torch.arange(width - start)
        order[line, start + len(row) :] = torch.arange(width - start - len(row))
    at = [
        torch.arange(start, start + len(row)) + line * width
        for row, (line, start) in zip(rows, places, strict=True)
    ]
    hidden = _hidden(model, head, ids.to(where), order.to(where) if packed else None)
    lengths = torch.tensor([len(row) for row in rows])
    owner = torch.arange(len(rows)).repeat_interleave(lengths).to(where)
    return hidden.flatten(0, 1)[torch.cat(at).to(where)], owner


def _hidden(model: CausalLM, head: nn.Module | None, ids: Tensor, order: Tensor | None) -> Tensor:
    """[rows, width, D] of what the head is given, or of what the model says it is."""
    given = {"input_ids": ids, "position_ids": order, "use_cache": False}
    if head is None:
        outputs = model(**given, output_hidden_states=True, logits_to_keep=1)
        # The last entry is the hidden state after the final norm.
        last: Tensor = outputs.hidden_states[-1]
        return last + 0 * outputs.logits.sum()
    kept = []

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept.append(inputs[0])
        return (inputs[0][:, :1].detach(), *inputs[1:])

    with _hooked(head, before):
        model(**given)
    return kept[0]


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def pack(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(row, start) for each of some sequences, in as few rows as WIDTH needs, all about as full."""
    longest = max(lengths)
    widest = max(WIDTH, longest)
    rows = -(-sum(lengths) // widest)
    # Narrower rows have less to pad; the narrowest of which there are no more than that.
    for width in range(max(longest, -(-sum(lengths) // rows)), widest):
        places = _first_fit(lengths, width)
        if max(row for row, _ in places) < rows:
            return places
    return _first_fit(lengths, widest)


def _first_fit(lengths: Sequence[int], width: int) -> list[tuple[int, int]]:
    """The longest first, each in the first row of `width` with room for it."""
    filled: list[int] = []
    places = [(0, 0)] * len(lengths)
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        row = next((r for r, used in enumerate(filled) if used + lengths[n] <= width), len(filled))
        filled += [0] * (row == len(filled))
        places[n] = (row, filled[row])
        filled[row] += lengths[n]
    return places


def can_pack(model: CausalLM, head: nn.Module, pad: int) -> bool:
    """Whether the model keeps sequences of one row apart by their positions, tried on a few."""
    size = min(model.get_input_embeddings().weight.shape[0], 1000)
    lengths = (9, 5, 12)
    ends = list(accumulate(lengths))
    ids = [n * 7919 % size for n in range(ends[-1])]
    rows = [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    where = head.weight.device
    was = model.training
    model.eval()
    with torch.no_grad():
        together, _ = last_states(model, head, rows, pad=pad, packed=True, where=where)
        apart, _ = last_states(model, None, rows, pad=pad, packed=False, where=where)
    model.train(was)
    scale = apart.abs().amax().clamp_min(1e-6)
    return bool((together - apart).abs().amax() <= 1e-2 * scale)

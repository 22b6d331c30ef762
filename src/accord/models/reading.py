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
STEP = 8  # tokens by which the width of packed rows is tried out


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
    at = _before_answers(rows, answers, ids.shape[1]).to(ids.device)

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].flatten(0, 1)[at].unsqueeze(0), *inputs[1:])

    with _hooked(head, before):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.squeeze(0)  # not logits[0], whose backward copies the whole gradient


def last_states(
    model: CausalLM, rows: Sequence[Ids], *, pad: int, where: torch.device
) -> tuple[Tensor, Tensor]:
    """Hidden states after the last layer and norm of every token, and whose it is.

    Returns [n, D] and [n], the sequences in order, n the sum of their lengths.
    """
    ids = pad_right(rows, pad).to(where)
    outputs = model(input_ids=ids, output_hidden_states=True, logits_to_keep=1, use_cache=False)
    at = _flat([(n, 0) for n in range(len(rows))], rows, ids.shape[1]).to(where)
    # The last entry is the hidden state after the final norm. The logits take part with a factor of
    # 0: what shards a model brings its weights back where its outputs carry a gradient.
    hidden = outputs.hidden_states[-1].flatten(0, 1)[at]
    return hidden + 0 * outputs.logits.sum(), _owner(rows).to(where)


def answers_and_states(
    model: CausalLM,
    head: nn.Module,
    rows: Sequence[Ids],
    answers: Sequence[int],
    queries: Sequence[Ids],
    *,
    pad: int,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`answer_logits` of `rows` and `last_states` of `queries` in one forward pass.

    The queries fill what the rows leave free, and further rows: only for a model that keeps the
    sequences of a row apart (`can_pack`). One pass forms each weight's gradient once.
    """
    places, (height, width) = pack([len(row) for row in rows], [len(query) for query in queries])
    everyone = [*rows, *queries]
    ids = torch.full((height, width), pad)
    # Positions count from 0 in every sequence; what is left of a row is one more sequence.
    order = torch.arange(width).repeat(height, 1)
    for row, (line, start) in sorted(zip(everyone, places, strict=True), key=lambda one: one[1]):
        ids[line, start : start + len(row)] = torch.tensor(row)
        order[line, start:] = torch.arange(width - start)
        order[line, start + len(row) :] = torch.arange(width - start - len(row))
    where = head.weight.device
    before = _before_answers(rows, answers, width).to(where)
    read = _flat(places[len(rows) :], queries, width).to(where)
    kept = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states = inputs[0].flatten(0, 1)
        kept.append(states[read])
        return (states[before].unsqueeze(0), *inputs[1:])

    with _hooked(head, hook):
        logits: Tensor = model(
            input_ids=ids.to(where), position_ids=order.to(where), use_cache=False
        ).logits
    return logits.squeeze(0), (kept[0], _owner(queries).to(where))


def _flat(places: Sequence[tuple[int, int]], rows: Sequence[Ids], width: int) -> Tensor:
    """Where the tokens of the sequences lie in rows of `width` put end to end."""
    return torch.cat(
        [
            torch.arange(start, start + len(row)) + line * width
            for row, (line, start) in zip(rows, places, strict=True)
        ]
    )


def _before_answers(rows: Sequence[Ids], answers: Sequence[int], width: int) -> Tensor:
    """The positions before the last `answers[i]` tokens of each row, likewise."""
    return torch.cat(
        [
            torch.arange(len(row) - count - 1, len(row) - 1) + n * width
            for n, (row, count) in enumerate(zip(rows, answers, strict=True))
        ]
    )


def _owner(rows: Sequence[Ids]) -> Tensor:
    lengths = torch.tensor([len(row) for row in rows])
    return torch.arange(len(rows)).repeat_interleave(lengths)


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def pack(
    first: Sequence[int], lengths: Sequence[int]
) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """(row, start) of each sequence, and (rows, width): as few tokens in all as can be found.

    Args:
        first: lengths of sequences that begin a row each.
        lengths: those of sequences that may come after any.
    """
    longest = -(-max(*first, *lengths) // STEP) * STEP
    most = longest + sum(lengths) // len(first) + STEP  # nearly everything fits beside `first`
    found = [(_first_fit(first, lengths, width), width) for width in range(longest, most + 1, STEP)]
    heights = [1 + max(row for row, _ in places) for places, _ in found]
    best = min(range(len(found)), key=lambda n: heights[n] * found[n][1])
    return found[best][0], (heights[best], found[best][1])


def _first_fit(first: Sequence[int], lengths: Sequence[int], width: int) -> list[tuple[int, int]]:
    """The longest first, each in the first row of `width` with room for it."""
    filled = list(first)
    places = [(0, 0)] * len(lengths)
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        row = next((r for r, used in enumerate(filled) if used + lengths[n] <= width), len(filled))
        filled += [0] * (row == len(filled))
        places[n] = (row, filled[row])
        filled[row] += lengths[n]
    return [*((row, 0) for row in range(len(first))), *places]


def can_pack(model: CausalLM, head: nn.Module, pad: int) -> bool:
    """Whether the model keeps sequences of one row apart by their positions, tried on a few."""
    size = min(model.get_input_embeddings().weight.shape[0], 1000)
    lengths = (26, 9, 5, 12)
    ends = list(accumulate(lengths))
    ids = [n * 7919 % size for n in range(ends[-1])]
    first, *others = [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    was = model.training
    model.eval()
    with torch.no_grad():
        _, (together, _) = answers_and_states(model, head, [first], [1], others, pad=pad)
        apart, _ = last_states(model, others, pad=pad, where=head.weight.device)
    model.train(was)
    scale = apart.abs().amax().clamp_min(1e-6)
    return bool((together - apart).abs().amax() <= 1e-2 * scale)

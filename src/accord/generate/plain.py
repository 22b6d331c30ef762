"""Greedy decoding by transformers' own `generate`: any model, each prompt read in full."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

BATCH = 16  # prompts at once: with more, padding and cache cost more than they save


class Said(NamedTuple):
    """The tokens of an answer, without the one that ended it; not `ended`: cut at the limit."""

    tokens: list[int]
    ended: bool


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    ends: frozenset[int],
    pad: int,
) -> list[Said]:
    """The answers to prompts (token ids), in their order."""
    from transformers import GenerationConfig

    from accord.models.base import pad_left

    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=pad,
    )
    said = []
    for start in range(0, len(prompts), BATCH):
        some = [list(prompt) for prompt in prompts[start : start + BATCH]]
        ids = pad_left(some, pad).to(model.device)
        mask = pad_left([[1] * len(prompt) for prompt in some], 0).to(model.device)
        with torch.inference_mode():
            output = model.generate(input_ids=ids, attention_mask=mask, generation_config=greedy)
        said += [_until(row, ends) for row in output[:, ids.shape[1] :].tolist()]
    return said


def _until(tokens: list[int], ends: frozenset[int]) -> Said:
    at = next((i for i, token in enumerate(tokens) if token in ends), None)
    return Said(tokens if at is None else tokens[:at], at is not None)

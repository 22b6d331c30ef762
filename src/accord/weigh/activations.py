"""Pooled activations of every layer, by forward hooks, pooled at once.

Memory holds one batch of activations plus the pooled vectors [T, D] of each layer, never the
activations of a whole development set.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord.models.base import CausalLM, Tokenizer, find_layers, pad_left, positions

Pool = Callable[[Tensor, Tensor], Tensor]


def pool_max(hidden: Tensor, mask: Tensor) -> Tensor:
    """Maximum over real tokens: [N, S, D] and [N, S] -> [N, D] (the paper's pooling)."""
    return hidden.masked_fill(~mask.bool().unsqueeze(-1), -torch.inf).amax(1)


def pool_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens: [N, S, D] and [N, S] -> [N, D]."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def pool_last(hidden: Tensor, mask: Tensor) -> Tensor:
    """The last token, which is real because rows are padded on the left: -> [N, D]."""
    return hidden[:, -1]


POOLS: dict[str, Pool] = {"max": pool_max, "mean": pool_mean, "last": pool_last}


def layer_features(
    model: CausalLM,
    tokenizer: Tokenizer,
    queries: Sequence[str],
    *,
    pool: str,
    name: str,
    batch: int = 16,
) -> list[NDArray[np.float64]]:
    """The pooled output of every layer for bare queries (no template): L arrays [T, D].

    Raises InputError (from `find_layers`) if the layers of the model cannot be found.
    """
    layers = find_layers(model, name)
    pooled: list[list[Tensor]] = [[] for _ in layers]
    mask = torch.empty(0)

    def keep(index: int) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            pooled[index].append(POOLS[pool](hidden.float(), mask).double().cpu())

        return hook

    handles = [layer.register_forward_hook(keep(i)) for i, layer in enumerate(layers)]
    model.eval()
    try:
        for start in range(0, len(queries), batch):
            rows = [list(tokenizer(q)["input_ids"]) for q in queries[start : start + batch]]
            ids = pad_left(rows, tokenizer.pad_token_id).to(model.device)
            mask = pad_left([[1] * len(row) for row in rows], 0).to(model.device)
            with torch.inference_mode():
                model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions(mask),
                    logits_to_keep=1,
                    use_cache=False,
                )
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(parts).numpy() for parts in pooled]

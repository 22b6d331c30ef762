"""Rows made of trained ones: a change of the base scaled, and the mean of several seeds."""

from collections.abc import Sequence
from pathlib import Path

import torch

from accord.models.base import load_model, load_tokenizer, save_model


def scale(base: Path, trained: Path, factor: float, out: Path) -> None:
    """Write base + factor * (trained - base)."""
    model, start = load_model(trained, where="cpu"), load_model(base, where="cpu")
    with torch.no_grad():
        for tensor, from_ in zip(model.parameters(), start.parameters(), strict=True):
            tensor.copy_(from_ + factor * (tensor - from_))
    save_model(model, load_tokenizer(base), out)


def average(models: Sequence[Path], out: Path) -> None:
    """Write the mean of the weights of several models (Wortsman et al. 2022, uniform soup)."""
    first = load_model(models[0], where="cpu")
    with torch.no_grad():
        for other in models[1:]:
            for tensor, more in zip(
                first.parameters(), load_model(other, where="cpu").parameters(), strict=True
            ):
                tensor += more
        for tensor in first.parameters():
            tensor /= len(models)
    save_model(first, load_tokenizer(models[0]), out)

"""Weights in fp8: one byte an element, and scales beside them that turn it into a number.

A tensor `x.weight` has its scales in `x.weight_scale_inv` or `x.weight_scale`, one for all, one for
each row, or one for each block (`weight_block_size` of the quantization config, else 128, else as
the shapes say). A tensor without any is refused: its numbers would be off by an unknown factor.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError
from accord.files.said import short
from accord.merge.headers import FP8, LARGEST, TensorInfo

_USUAL = [128, 128]  # of transformers and of those who publish such models
_ENDINGS = ("_scale_inv", "_scale")
_UNUSED = ("input_scale", "activation_scale", "act_scale")  # of the activations, when served in fp8


def find_scales(
    folder: Path, tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]
) -> tuple[dict[str, TensorInfo], dict[str, TensorInfo]]:
    """(tensors without the scales, the scales of each tensor in fp8).

    Raises InputError for a tensor in fp8 whose scales are missing or fit no layout.
    """
    _check_blocks(folder, config)
    scales = {}
    for name, info in tensors.items():
        if info.dtype not in FP8:
            continue
        found = [name + ending for ending in _ENDINGS if name + ending in tensors]
        if not found or tensors[found[0]].dtype not in LARGEST:
            raise InputError(
                f"{folder}: tensor `{name}` is in fp8 and has no scales (`{name}_scale_inv` or "
                f"`{name}_scale`); without them its numbers are unknown"
            )
        scales[name] = tensors[found[0]]
        if not _fits(info.shape, scales[name].shape):
            raise InputError(
                f"{folder}: tensor `{found[0]}` of shape {list(scales[name].shape)} does not fit "
                f"`{name}` of shape {list(info.shape)}: one scale, one a row, or blocks are known"
            )
    dropped = {id(info) for info in scales.values()} if scales else set()
    kept = {
        name: info
        for name, info in tensors.items()
        if id(info) not in dropped and not (scales and name.endswith(_UNUSED))
    }
    return kept, scales


def _check_blocks(folder: Path, config: Mapping[str, Any]) -> None:
    size = _declared(config)
    if size is None or (
        isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)
    ):
        return
    raise InputError(
        f"{folder / 'config.json'}: weight_block_size: found {short(size)}; two whole numbers from "
        "1 are wanted"
    )


def _declared(config: Mapping[str, Any]) -> Any:
    quantised = config.get("quantization_config")
    return quantised.get("weight_block_size") if isinstance(quantised, dict) else None


def _fits(shape: tuple[int, ...], scale: tuple[int, ...]) -> bool:
    if math.prod(scale) == 1:
        return len(scale) <= 2
    return (
        len(shape) == 2
        and len(scale) in (1, 2)
        and all(0 < s <= n for s, n in zip(scale, shape, strict=False))
    )


@dataclass(frozen=True)
class Scaled:
    """The scales of one tensor, spread over its elements."""

    shape: tuple[int, ...]
    values: NDArray[np.float32]
    config: Mapping[str, Any]

    def scales(self, start: int, count: int) -> NDArray[np.float32]:
        """Those of elements [start, start + count)."""
        if self.values.size == 1:
            return np.broadcast_to(self.values.reshape(-1), (count,))
        width = self.shape[1]
        table = self.values if self.values.ndim == 2 else self.values[:, None]
        row, column = np.divmod(np.arange(start, start + count), width)
        high, wide = self._block(table.shape)
        picked: NDArray[np.float32] = table[row // high, column // wide]
        return picked

    def _block(self, table: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns that share a scale."""
        declared = _declared(self.config) or _USUAL
        sizes = []
        for axis, (length, parts) in enumerate(zip(self.shape, table, strict=True)):
            size = -(-length // parts)
            if -(-length // declared[axis]) == parts:
                size = declared[axis]
            sizes.append(size)
        return sizes[0], sizes[1]


def values_of(dtype: str, stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The numbers of fp8 bytes, before they are scaled."""
    import ml_dtypes

    kind = ml_dtypes.float8_e4m3fn if dtype == "F8_E4M3" else ml_dtypes.float8_e5m2
    values: NDArray[np.float32] = stored.view(kind).astype(np.float32)
    return values

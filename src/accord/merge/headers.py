"""The safetensors format: an 8-byte length, a JSON header, then the tensors without gaps.

Unusual: read and written by hand. A merge needs each tensor's place in the file, to stream
pieces of it, and nothing that imports torch. Source: the format section of
https://github.com/huggingface/safetensors
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.errors import InputError
from accord.files.said import named

# What can be merged (always little-endian on disk), with its largest finite number ...
LARGEST = {"F32": (2 - 2**-23) * 2.0**127, "F16": 65504.0, "BF16": (2 - 2**-7) * 2.0**127}
_FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
# ... or only with scales beside it, of which a checkpoint takes care ...
FP8 = {"F8_E4M3": 1, "F8_E5M2": 1}
# ... and what is handed through as bytes.
_RAW = {"BOOL": 1, "I8": 1, "U8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}
SIZES = _FLOATS | FP8 | _RAW
_MOST_DIMENSIONS = 64  # of numpy and torch
_MOST_HEADER_BYTES = 100_000_000  # the limit of the reference implementation


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's file, dtype as safetensors names it, shape, and byte range in that file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        """Whether it can be merged; other tensors are handed through."""
        return self.dtype in _FLOATS or self.dtype in FP8


def read_header(file: Path) -> dict[str, TensorInfo]:
    """All tensors of one safetensors file, by name, in the order of their bytes.

    Raises InputError naming the file, and the tensor where one is to blame.
    """
    try:
        available = file.stat().st_size
        with file.open("rb") as source:
            length = int.from_bytes(source.read(8), "little")
            if available < 8 or not 2 <= length <= min(available - 8, _MOST_HEADER_BYTES):
                raise InputError(
                    f"{file}: truncated, or not a safetensors file ({available} bytes do not hold "
                    "the header they announce)"
                )
            text = source.read(length)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    entries = _parse(file, text)
    found = {name: _tensor(file, name, entry, 8 + length) for name, entry in entries.items()}
    ordered = dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].stop)))
    _check_layout(file, ordered, 8 + length, available)
    return ordered


def _parse(file: Path, text: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{file}: the safetensors header is not JSON") from None
    if not isinstance(entries, dict):
        raise InputError(f"{file}: the safetensors header is not a JSON object")
    entries.pop("__metadata__", None)
    return entries


def _tensor(file: Path, name: str, entry: Any, origin: int) -> TensorInfo:
    where = f"{file}: tensor `{name}`"
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, stop]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{where}: dtype, shape and two data_offsets are wanted") from None
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in numbers):
        raise InputError(f"{where}: shape and data_offsets must be whole numbers from 0")
    if len(shape) > _MOST_DIMENSIONS or max(numbers) >= 1 << 63:
        raise InputError(
            f"{where}: at most {_MOST_DIMENSIONS} dimensions and numbers below 2**63 are wanted"
        )
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise InputError(
            f"{where}: dtype {named(dtype)} is not supported; F32, F16 or BF16 is wanted, "
            "or an integer type, which is handed through"
        )
    if stop - start != math.prod(shape) * SIZES[dtype]:
        raise InputError(
            f"{where}: {dtype} of shape {list(shape)} takes {math.prod(shape) * SIZES[dtype]} "
            f"bytes, but its data_offsets span {stop - start}"
        )
    return TensorInfo(file, dtype, tuple(shape), origin + start, origin + stop)


def _check_layout(
    file: Path, tensors: Mapping[str, TensorInfo], origin: int, available: int
) -> None:
    """The format allows neither gaps nor overlaps; a file that ends early was cut."""
    end = origin
    for name, info in tensors.items():
        if info.stop > available:
            raise InputError(
                f"{file}: tensor `{name}` ends at byte {info.stop}, out of range: the file has "
                f"{available} bytes; it is truncated, copy or download it again"
            )
        if info.start != end:
            raise InputError(f"{file}: tensor `{name}` does not begin where the one before ends")
        end = info.stop


def build_header(
    file: Path, specs: Iterable[tuple[str, str, tuple[int, ...]]]
) -> tuple[bytes, dict[str, TensorInfo]]:
    """The first bytes of `file` for tensors (name, dtype, shape), and where each will be."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers insists on it
    end = 0
    for name, dtype, shape in specs:
        start, end = end, end + math.prod(shape) * SIZES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin aligned
    del entries["__metadata__"]
    origin = 8 + len(text)
    infos = {name: _tensor(file, name, entry, origin) for name, entry in entries.items()}
    return len(text).to_bytes(8, "little") + text, infos

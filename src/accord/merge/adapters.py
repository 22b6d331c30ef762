"""LoRA adapters as inputs of a merge: their deltas, computed piece by piece, never a whole model.

delta = s * B A (Hu et al. 2021, equation 3), s = alpha / r, or alpha / sqrt(r) where the adapter
says so. Unusual: the products are added up rank by rank and never by a matrix multiplication, whose
rounding depends on the library and on how it is cut; so the bytes depend on neither.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError
from accord.merge.blend import AS_DELTA, F32, Bytes, widen
from accord.merge.checkpoint import Checkpoint
from accord.merge.headers import TensorInfo, read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(?:\.weight)?$")
# Initialisations that change the base too, and those of which A and B are not all.
_INITIAL = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
_REFUSED = {
    "use_dora": "DoRA",
    "alora_invocation_tokens": "an activated LoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow",
}


@dataclass(frozen=True)
class _Pair:
    """The two factors of one tensor's delta and its scale."""

    a: str
    b: str
    scale: float
    transposed: bool  # the tensor is stored [in, out]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter of `base`: a delta of some of its tensors, and a few tensors whole."""

    folder: Path
    base: Checkpoint
    stored: Checkpoint
    pairs: Mapping[str, _Pair]
    whole: Mapping[str, str]  # tensor -> its name in the adapter
    _factors: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(
        default_factory=dict, repr=False
    )
    _lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the base: an adapter has none."""
        return self.base.config

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Those of the base."""
        return self.base.tensors

    def fill(self, name: str, start: int, count: int, row: Bytes) -> int:
        """Elements [start, start + count) of the delta, or of a tensor that is there as a whole."""
        code = AS_DELTA
        given: NDArray[np.float32] | None = None
        if name in self.whole:
            code = self.stored.fill(self.whole[name], start, count, row)
            if name not in self.pairs:
                return code
            given, code = widen(row, code, count).copy(), F32
        out = row[: 4 * count].view(np.float32)
        out[:] = self._delta(name, start, count) if name in self.pairs else 0
        if given is not None:  # embeddings that were saved beside their factors
            out += given
        return code

    def _delta(self, name: str, start: int, count: int) -> NDArray[np.float32]:
        """Elements [start, start + count) of s * B A."""
        left, right = self._of(name)
        width = right.shape[1]
        first, last = start // width, (start + count - 1) // width + 1
        table = np.zeros((last - first, width), np.float32)
        term = np.empty_like(table)
        for rank in range(len(right)):
            np.multiply(left[first:last, rank, None], right[rank], out=term)
            table += term
        skip = start - first * width
        picked: NDArray[np.float32] = table.reshape(-1)[skip : skip + count]
        return picked * np.float32(self.pairs[name].scale)

    def _of(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The factors [rows, r] and [r, columns] of a tensor; a few are kept."""
        with self._lock:
            if name not in self._factors:
                pair = self.pairs[name]
                a, b = self.stored.read(pair.a), self.stored.read(pair.b)
                factors = (a.T, b.T) if pair.transposed else (b, a)
                while len(self._factors) >= 8:
                    self._factors.pop(next(iter(self._factors)))
                self._factors[name] = tuple(np.ascontiguousarray(f) for f in factors)  # type: ignore[assignment]
            return self._factors[name]

    def raw(self, name: str, start: int, count: int) -> Bytes:
        """What is no float is the base's."""
        return self.base.raw(name, start, count)

    def close(self) -> None:
        """Close what was opened for reading."""
        self.stored.close()


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def open_adapter(folder: Path, base: Checkpoint) -> Adapter:
    """Read the headers of an adapter. Raises InputError for what does not fit the base."""
    config = _config(folder)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder}: an adapter without `{WEIGHTS}`; save it as safetensors")
    tensors = read_header(folder / WEIGHTS)
    pairs: dict[str, _Pair] = {}
    whole = {}
    for key in tensors:
        name = key.removeprefix(_PREFIX)
        match = _PART.match(name)
        if match is None:
            whole[_target(folder, name.replace(".base_layer.", "."), base)] = key
        elif match["side"] == "A":
            target = _target(folder, f"{match['module']}.weight", base)
            pairs[target] = _pair(folder, key, match, config, tensors)
        elif _other(key) not in tensors:
            raise InputError(f"{folder}: adapter: `{key}` is there without `{_other(key)}`")
    adapter = Adapter(folder, base, Checkpoint(folder, {}, tensors), pairs, whole)
    for target, pair in pairs.items():
        _check_shape(folder, target, pair, tensors, base)
    for target, key in whole.items():
        if tensors[key].shape != base.tensors[target].shape or not tensors[key].floating:
            raise InputError(
                f"{folder}: adapter: tensor `{key}` has shape {list(tensors[key].shape)}; the base "
                f"has {list(base.tensors[target].shape)}"
            )
    if not pairs and not whole:
        raise InputError(f"{folder}: the adapter changes nothing; it holds no LoRA tensors")
    return adapter


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        raise InputError(f"{folder / CONFIG}: not readable as JSON") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise InputError(f"{folder / CONFIG}: peft_type {kind}; only LORA adapters can be merged")
    for key, called in _REFUSED.items():
        if config.get(key):
            raise InputError(
                f"{folder / CONFIG}: `{key}`: {called} is more than a sum; merge it into its base "
                "first (peft's merge_and_unload)"
            )
    initial = config.get("init_lora_weights")
    if isinstance(initial, str) and initial.lower().startswith(_INITIAL):
        raise InputError(
            f"{folder / CONFIG}: `init_lora_weights: {initial}` is of another base than the one "
            "given; merge the adapter into its base first (peft's merge_and_unload)"
        )
    return config


def _other(key: str) -> str:
    """The other factor of a pair."""
    one, two = ("A", "B") if "lora_A" in key or "lora_embedding_A" in key else ("B", "A")
    return key.replace(f"lora_{one}", f"lora_{two}").replace(
        f"lora_embedding_{one}", f"lora_embedding_{two}"
    )


def _alpha(where: Path, module: str, config: Mapping[str, Any]) -> float:
    """lora_alpha of a module: that of the first pattern its name ends with."""
    alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise InputError(f"{where}: alpha_pattern: found {patterns!r}; a mapping is wanted")
    for pattern, value in patterns.items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", module)
        except (re.error, RecursionError, OverflowError):
            raise InputError(
                f"{where}: alpha_pattern: `{pattern}` is no regular expression"
            ) from None
        if found:
            alpha = value
            break
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
        raise InputError(f"{where}: lora_alpha: found {alpha!r}; a number is wanted")
    if not abs(alpha) < 1e9:
        raise InputError(f"{where}: lora_alpha: found {alpha!r}; a finite number is wanted")
    return alpha


def _target(folder: Path, name: str, base: Checkpoint) -> str:
    """The base's tensor of that name, or the only one that ends so."""
    if name in base.tensors:
        return name
    close = [n for n in base.tensors if n.endswith(f".{name}") or name.endswith(f".{n}")]
    if len(close) != 1:
        raise InputError(
            f"{folder}: adapter: the base {base.folder} has no tensor `{name}`; give the base that "
            "it was trained on"
        )
    return close[0]


def _pair(
    folder: Path,
    key: str,
    match: re.Match[str],
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
) -> _Pair:
    other = _other(key)
    if other not in tensors:
        raise InputError(f"{folder}: adapter: `{key}` is there without `{other}`")
    if len(tensors[key].shape) != 2 or len(tensors[other].shape) != 2:
        raise InputError(
            f"{folder}: adapter: `{key}` is no matrix; only linear layers and embeddings can be "
            "merged"
        )
    rank = tensors[key].shape[0]
    if rank == 0:
        raise InputError(f"{folder}: adapter: `{key}` is of rank 0; it changes nothing")
    alpha = _alpha(folder / CONFIG, match["module"], config)
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    transposed = bool(match["kind"]) or bool(config.get("fan_in_fan_out"))
    return _Pair(key, other, scale, transposed)


def _check_shape(
    folder: Path,
    target: str,
    pair: _Pair,
    tensors: Mapping[str, TensorInfo],
    base: Checkpoint,
) -> None:
    (rank, columns), (rows, other) = tensors[pair.a].shape, tensors[pair.b].shape
    shape = (columns, rows) if pair.transposed else (rows, columns)
    if rank != other or shape != base.tensors[target].shape:
        raise InputError(
            f"{folder}: adapter: the delta of `{target}` is {list(shape)}; the base has "
            f"{list(base.tensors[target].shape)}"
        )

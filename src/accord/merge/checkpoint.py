"""Model folders of safetensors: tensors read in pieces, never a whole model.

Unusual: nothing is mapped, so memory is what the caller asks for; pieces may come in any order and
from several threads. Weights in fp8 are read with their scales applied.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError, RunError
from accord.files.said import named
from accord.merge.blend import CODES, F32, Bytes, widen
from accord.merge.fp8 import Scaled, find_scales, values_of
from accord.merge.headers import FP8, SIZES, TensorInfo, read_header

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

_LAYER_KEYS = ("num_hidden_layers", "n_layer", "text_config.num_hidden_layers")
_MOST_LAYERS = 100_000
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.([0-9]{1,9})\.")
# Towers of multimodal models number their own layers, which have no merge weights.
_TOWER = re.compile(r"vision|visual|image|audio|speech")
_QUANTISED = {"quantize_config.json": "GPTQ", "quant_config.json": "AWQ"}


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one model folder and its config.json.

    `tensors` holds what can be merged or handed through; `scales` those of its weights in fp8.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    scales: Mapping[str, TensorInfo] = field(default_factory=dict)
    _files: dict[Path, int] = field(default_factory=dict, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def fill(self, name: str, start: int, count: int, row: Bytes) -> int:
        """Read elements [start, start + count) of a floating tensor; returns the code of `row`."""
        info = self.tensors[name]
        if info.dtype in FP8:
            row[: 4 * count].view(np.float32)[:] = self._scaled(name, start, count)
            return F32
        self._read(info, name, start, row[: count * SIZES[info.dtype]])
        return CODES[info.dtype]

    def raw(self, name: str, start: int, count: int) -> Bytes:
        """The bytes of elements [start, start + count) of any tensor.

        Raises RunError when the file has become shorter than its header says.
        """
        info = self.tensors[name]
        buffer = np.empty(count * SIZES[info.dtype], np.uint8)
        self._read(info, name, start, buffer)
        return buffer

    def read(self, name: str) -> NDArray[np.float32]:
        """A whole floating tensor in its own shape, in float32."""
        info = self.tensors[name]
        row = np.empty(4 * info.size, np.uint8)
        code = self.fill(name, 0, info.size, row)
        return widen(row, code, info.size).reshape(info.shape)

    def close(self) -> None:
        """Close what was opened for reading."""
        while self._files:
            os.close(self._files.popitem()[1])

    @cached_property
    def _scale_values(self) -> dict[str, Scaled]:
        return {}  # filled as tensors are read

    def _scaled(self, name: str, start: int, count: int) -> NDArray[np.float32]:
        """Elements of a tensor in fp8, times their scales."""
        info = self.tensors[name]
        if name not in self._scale_values:
            scale = self.scales[name]
            row = np.empty(4 * scale.size, np.uint8)
            self._read(scale, name, 0, row[: scale.size * SIZES[scale.dtype]])
            values = widen(row, CODES[scale.dtype], scale.size).reshape(scale.shape)
            self._scale_values[name] = Scaled(info.shape, values, self.config)
        return values_of(info.dtype, self.raw(name, start, count)) * (
            self._scale_values[name].scales(start, count)
        )

    def _read(self, info: TensorInfo, name: str, start: int, buffer: Bytes) -> None:
        with self._lock:
            if info.file not in self._files:
                self._files[info.file] = os.open(info.file, os.O_RDONLY)
        view, at = memoryview(buffer.data), info.start + start * SIZES[info.dtype]
        while view:
            got = os.preadv(self._files[info.file], [view], at)
            if not got:
                raise RunError(f"{info.file}: tensor `{name}`: the file changed while it was read")
            view, at = view[got:], at + got


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of the model in `folder`, one file or shards with an index.

    Raises InputError when the folder holds no model, a quantised one, or a damaged file.
    """
    config = read_config(folder)
    _refuse_quantised(folder, config)
    if (folder / SINGLE).is_file():  # the precedence of transformers
        tensors = read_header(folder / SINGLE)
    elif (folder / INDEX).is_file():
        tensors = _read_shards(folder)
    else:
        raise InputError(f"{folder}: {_why_no_weights(folder)}")
    tensors, scales = find_scales(folder, tensors, config)
    return Checkpoint(folder, config, tensors, scales)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder; raises InputError when `folder` is not one."""
    if folder.suffix == ".gguf" or (any(folder.glob("*.gguf")) and not _safetensors(folder)):
        raise InputError(f"{folder}: GGUF weights are quantised; give the model in safetensors")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: not a model folder; it has no config.json")
    return _read_json(folder / "config.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON object is wanted")
    return value


def _refuse_quantised(folder: Path, config: Mapping[str, Any]) -> None:
    quantised = config.get("quantization_config")
    kinds = [kind for file, kind in _QUANTISED.items() if (folder / file).is_file()]
    if quantised and not _is_fp8(quantised):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        kinds.insert(0, str(method or "bitsandbytes"))  # early bitsandbytes wrote no method
    if kinds:
        raise InputError(
            f"{folder}: the weights are quantised ({kinds[0]}); merge unquantised models"
        )


def _is_fp8(quantised: Any) -> bool:
    """Weights in fp8 have scales beside them, which are applied."""
    return isinstance(quantised, dict) and quantised.get("quant_method") == "fp8"


def _safetensors(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.safetensors"))


def _why_no_weights(folder: Path) -> str:
    found = _safetensors(folder)
    if "adapter_model.safetensors" in found:
        return "an adapter, not a whole model; merge it into its base model first"
    if found:
        return f"`{SINGLE}` or `{INDEX}` is wanted; found only {found[0]}"
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        return "pickled weights are never read; convert the model to safetensors"
    return f"no weights; `{SINGLE}` or `{INDEX}` is wanted"


def _read_shards(folder: Path) -> dict[str, TensorInfo]:
    index = folder / INDEX
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index}: `weight_map` is missing")
    headers = {}
    here = set(_safetensors(folder))
    for file in places.values():
        if not isinstance(file, str) or file not in here or not (folder / file).is_file():
            raise InputError(f"{index}: names the shard {named(file)}, which is not in the folder")
    for file in sorted(set(places.values())):
        headers[file] = read_header(folder / file)
    for name, file in places.items():
        if name not in headers[file]:
            raise InputError(f"{index}: tensor `{name}` is not in {file}")
    return {name: headers[file][name] for name, file in places.items()}


def count_layers(folder: Path) -> int:
    """The number of layers in config.json; raises InputError saying what was looked for."""
    return layers_in(read_config(folder), folder)


def layers_in(config: Mapping[str, Any], folder: Path) -> int:
    """The number of layers a config declares; `folder` is for the message."""
    for key in _LAYER_KEYS:
        value = config_value(config, key)
        if type(value) is int and 0 < value <= _MOST_LAYERS:
            return value
    wanted = ", ".join(f"`{key}`" for key in _LAYER_KEYS)
    raise InputError(
        f"{folder}: layers not found; config.json has none of {wanted} from 1 to {_MOST_LAYERS}"
    )


def config_value(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, or None."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def layer_of(name: str, layers: int) -> int | None:
    """The layer a tensor belongs to; None for embeddings, final norm, head and towers.

    An index of `layers` or more is outside too: some models append prediction layers.
    """
    match = _LAYER.search(name)
    if match is None or _TOWER.search(name[: match.start()]) or int(match[1]) >= layers:
        return None
    return int(match[1])

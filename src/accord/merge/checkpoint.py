"""Model folders of safetensors: tensors read and written in pieces, never a whole model.

Unusual: nothing is mapped and no file stays open. Each read and write opens its file and goes to
the byte it wants, so memory is what the caller asks for, and pieces may come in any order.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError, RunError
from accord.merge.headers import FLOATS, SIZES, TensorInfo, build_header, read_header

SHARD_SIZE = 5_000_000_000
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

_LAYER_KEYS = ("num_hidden_layers", "n_layer", "text_config.num_hidden_layers")
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
# Towers of multimodal models number their own layers, which have no merge weights.
_TOWER = re.compile(r"vision|visual|image|audio|speech")
_QUANTISED = {"quantize_config.json": "GPTQ", "quant_config.json": "AWQ"}


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one model folder and its config.json."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    def read(self, name: str) -> NDArray[np.float32]:
        """A whole floating tensor in its own shape."""
        return self.piece(name, 0, self.tensors[name].size).reshape(self.tensors[name].shape)

    def piece(self, name: str, start: int, count: int) -> NDArray[np.float32]:
        """Elements [start, start + count) of a floating tensor, flat."""
        stored = self.raw(name, start, count).view(FLOATS[self.tensors[name].dtype])
        return stored.astype(np.float32, copy=False)

    def raw(self, name: str, start: int, count: int) -> NDArray[np.uint8]:
        """The bytes of elements [start, start + count) of any tensor.

        Raises RunError when the file has become shorter than its header says.
        """
        info = self.tensors[name]
        size = SIZES[info.dtype]
        buffer = np.empty(count * size, np.uint8)
        with info.file.open("rb") as source:
            source.seek(info.start + start * size)
            if source.readinto(buffer.data) != buffer.size:
                raise RunError(f"{info.file}: tensor `{name}`: the file changed while it was read")
        return buffer


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of the model in `folder`, one file or shards with an index.

    Raises InputError when the folder holds no model, a quantised one, or a damaged file.
    """
    config = read_config(folder)
    _refuse_quantised(folder, config)
    if (folder / SINGLE).is_file():  # the precedence of transformers
        return Checkpoint(folder, config, read_header(folder / SINGLE))
    if (folder / INDEX).is_file():
        return Checkpoint(folder, config, _read_shards(folder))
    raise InputError(f"{folder}: {_why_no_weights(folder)}")


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
    except ValueError:
        raise InputError(f"{path}: not valid JSON") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON object is wanted")
    return value


def _refuse_quantised(folder: Path, config: Mapping[str, Any]) -> None:
    quantised = config.get("quantization_config")
    kinds = [kind for file, kind in _QUANTISED.items() if (folder / file).is_file()]
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        kinds.insert(0, str(method or "bitsandbytes"))  # early bitsandbytes wrote no method
    if kinds:
        raise InputError(
            f"{folder}: the weights are quantised ({kinds[0]}); merge unquantised models"
        )


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
    for file in sorted({str(file) for file in places.values()}):
        if Path(file).name != file or not (folder / file).is_file():
            raise InputError(f"{index}: names the shard {file}, which is not in the folder")
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
        if type(value) is int and value > 0:
            return value
    wanted = ", ".join(f"`{key}`" for key in _LAYER_KEYS)
    raise InputError(f"{folder}: layers not found; config.json has none of {wanted}")


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


class CheckpointWriter:
    """Writes headers (and index) first, then tensors in place, piece by piece.

    Shards of at most `shard_size` bytes, but a tensor is never split. The files depend on
    names, dtypes and shapes alone, not on how the inputs were sharded.
    """

    def __init__(
        self, folder: Path, like: Mapping[str, TensorInfo], shard_size: int = SHARD_SIZE
    ) -> None:
        shards = list(_shards(like, shard_size))
        self.tensors: dict[str, TensorInfo] = {}
        for number, names in enumerate(shards, start=1):
            sharded = f"model-{number:05}-of-{len(shards):05}.safetensors"
            file = folder / (sharded if len(shards) > 1 else SINGLE)
            header, infos = build_header(file, ((n, like[n].dtype, like[n].shape) for n in names))
            file.write_bytes(header)
            self.tensors |= infos
        if len(shards) > 1:
            self._write_index(folder)
        self._missing = {name: info.stop - info.start for name, info in self.tensors.items()}

    def _write_index(self, folder: Path) -> None:
        total = sum(info.stop - info.start for info in self.tensors.values())
        places = {name: info.file.name for name, info in sorted(self.tensors.items())}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def write(self, name: str, start: int, values: NDArray[Any]) -> None:
        """Elements [start, ...) of a tensor, as bytes or as an array of the tensor's own dtype."""
        info = self.tensors[name]
        with info.file.open("r+b") as target:
            target.seek(info.start + start * SIZES[info.dtype])
            target.write(values.view(np.uint8).data)
        self._missing[name] -= values.nbytes

    def finish(self) -> None:
        """Raises RunError unless every tensor was written in full."""
        for name, missing in self._missing.items():
            if missing:
                raise RunError(f"tensor `{name}`: {missing} bytes were not written")


def _shards(like: Mapping[str, TensorInfo], shard_size: int) -> Iterator[list[str]]:
    """Wide dtypes first, so that each tensor is aligned; then names, `layers.2` before `10`."""
    names: list[str] = []
    filled = 0
    for name in sorted(like, key=lambda n: (-SIZES[like[n].dtype], _natural(n))):
        size = like[name].size * SIZES[like[name].dtype]
        if names and filled + size > shard_size:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += size
    yield names


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]

"""Everything that can be wrong with a merge, found before the first byte is written."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accord.errors import InputError, RunError
from accord.merge.checkpoint import (
    Checkpoint,
    config_value,
    layer_of,
    layers_in,
    open_checkpoint,
)
from accord.merge.headers import SIZES
from accord.records import LayerWeights

_PIECE = 1 << 20
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")


@dataclass(frozen=True)
class Plan:
    """A merge that can go ahead: models and rows of weights in the order of their labels."""

    base: Checkpoint
    models: Mapping[str, Checkpoint]
    weights: LayerWeights  # outside_layers filled in

    def row(self, name: str) -> list[float]:
        """The weights of the K models for one tensor."""
        layer = layer_of(name, self.weights.layers)
        if layer is None:
            return list(self.weights.outside_layers)
        return [row[layer] for row in self.weights.weights]


def prepare(
    base: Path,
    models: Mapping[str, Path],
    weights: LayerWeights,
    out: Path,
    outside_layers: Literal["mean", "base"],
) -> Plan:
    """Open and compare all models. Raises InputError, or RunError when the disk is too full."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty; give a new folder for the merged model")
    ordered = _ordered(weights, models, outside_layers)
    opened = open_checkpoint(base)
    _check_layers(opened, ordered.layers)
    others = {}
    for label in ordered.models:
        others[label] = open_checkpoint(models[label])
        _check_model(label, others[label], opened)
    _check_space(opened, out)
    return Plan(opened, others, ordered)


def _ordered(
    weights: LayerWeights, models: Mapping[str, Path], outside_layers: Literal["mean", "base"]
) -> LayerWeights:
    """The weights with their rows sorted by label, and weights for outside the layers."""
    _check_weights(weights, models)
    order = sorted(range(len(weights.models)), key=lambda k: weights.models[k])
    rows = tuple(weights.weights[k] for k in order)
    if weights.outside_layers:
        outside = tuple(weights.outside_layers[k] for k in order)
    elif outside_layers == "mean":
        outside = tuple(math.fsum(row) / len(row) for row in rows)
    else:
        outside = (0.0,) * len(rows)
    changed = {
        "models": tuple(weights.models[k] for k in order),
        "weights": rows,
        "outside_layers": outside,
    }
    if weights.distances:
        changed["distances"] = tuple(weights.distances[k] for k in order)
    return weights.model_copy(update=changed)


def _check_weights(weights: LayerWeights, models: Mapping[str, Path]) -> None:
    if not models:
        raise InputError("merge: no models; at least one specialist is wanted")
    if sorted(weights.models) != sorted(models):
        raise InputError(
            f"layer weights: are for {', '.join(sorted(weights.models))}; the models to merge "
            f"are {', '.join(sorted(models))}"
        )
    count = len(models)
    for field, table in (("weights", weights.weights), ("distances", weights.distances)):
        lengths = [len(row) for row in table]
        if lengths != [weights.layers] * count and (table or field == "weights"):
            raise InputError(
                f"layer weights: `{field}` has rows of {lengths}; {count} rows of "
                f"{weights.layers} are wanted"
            )
    if len(weights.outside_layers) not in (0, count):
        raise InputError(
            f"layer weights: `outside_layers` has {len(weights.outside_layers)} values; "
            f"{count} are wanted"
        )
    outside = weights.outside_layers or (0.0,) * count
    for label, row, extra in zip(weights.models, weights.weights, outside, strict=True):
        if not all(map(math.isfinite, (*row, extra))):
            raise InputError(f"layer weights: a weight of {label} is not a finite number")


def _check_layers(base: Checkpoint, layers: int) -> None:
    declared = layers_in(base.config, base.folder)
    if declared != layers:
        raise InputError(
            f"layer weights: have {layers} layers, but the base {base.folder} has {declared}"
        )
    missing = set(range(layers)) - {layer_of(name, layers) for name in base.tensors}
    if missing:
        raise InputError(
            f"{base.folder}: layers not found; no tensor is named like "
            f"`model.layers.{min(missing)}.` or `transformer.h.{min(missing)}.`"
        )


def _check_model(label: str, model: Checkpoint, base: Checkpoint) -> None:
    """The model is shaped like the base; raises InputError naming model and tensor."""
    where = f"{model.folder}: model {label}"
    layers, wanted = layers_in(model.config, model.folder), layers_in(base.config, base.folder)
    if layers != wanted:
        raise InputError(f"{where} has {layers} layers; the base has {wanted}")
    words, known = _vocabulary(model), _vocabulary(base)
    if words != known:
        raise InputError(f"{where} has a vocabulary of {words}; the base has {known}")
    _check_tensors(where, model, base)


def _check_tensors(where: str, model: Checkpoint, base: Checkpoint) -> None:
    for name, info in base.tensors.items():
        own = model.tensors.get(name)
        if own is None:
            raise InputError(f"{where}: tensor `{name}` is missing; the base has it")
        if own.shape != info.shape:
            raise InputError(
                f"{where}: tensor `{name}` has shape {list(own.shape)}; "
                f"the base has {list(info.shape)}"
            )
        if own.dtype != info.dtype and not (own.floating and info.floating):
            raise InputError(
                f"{where}: tensor `{name}` has dtype {own.dtype}; the base has {info.dtype}"
            )
    for name in model.tensors:
        if name not in base.tensors and not _copy_of_embeddings(name, model):
            raise InputError(f"{where}: tensor `{name}` is extra; the base does not have it")


def _vocabulary(model: Checkpoint) -> int | None:
    for key in ("vocab_size", "text_config.vocab_size"):
        value = config_value(model.config, key)
        if isinstance(value, int):
            return value
    return None


def _copy_of_embeddings(name: str, model: Checkpoint) -> bool:
    """Whether `name` is a tied head that was saved all the same: the embeddings, bit for bit."""
    twins = [n for n in model.tensors if n.endswith(_EMBEDDINGS)]
    if not name.endswith("lm_head.weight") or len(twins) != 1:
        return False
    head, twin = model.tensors[name], model.tensors[twins[0]]
    return (head.dtype, head.shape) == (twin.dtype, twin.shape) and same_bytes(
        name, model, twins[0], model
    )


def same_bytes(name: str, one: Checkpoint, other_name: str, other: Checkpoint) -> bool:
    """Whether two tensors of one dtype and shape are equal, compared piece by piece."""
    size = one.tensors[name].size
    for start in range(0, size, _PIECE):
        count = min(_PIECE, size - start)
        mine, theirs = one.raw(name, start, count), other.raw(other_name, start, count)
        if mine.tobytes() != theirs.tobytes():
            return False
    return True


def _check_space(base: Checkpoint, out: Path) -> None:
    needed = sum(info.size * SIZES[info.dtype] for info in base.tensors.values())
    existing = next(folder for folder in (out, *out.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunError(
            f"{out}: the merged model takes {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB "
            "are free there"
        )

"""Everything that can be wrong with a merge, found from headers before a byte is written."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accord.errors import InputError, RunError
from accord.merge.adapters import Adapter, is_adapter, open_adapter
from accord.merge.checkpoint import (
    Checkpoint,
    config_value,
    layer_of,
    layers_in,
    open_checkpoint,
)
from accord.merge.headers import FP8, LARGEST, SIZES
from accord.records import LayerWeights

_PIECE = 1 << 20
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
_HEAD = "lm_head.weight"
_MUCH = 1.5  # more than that in all has broken models

Settings = tuple[tuple[float, ...], Mapping[str, Any]]  # weights [K] of a tensor, method's options
Resolve = Callable[[str], Settings]
Model = Checkpoint | Adapter


@dataclass(frozen=True)
class Plan:
    """A merge that can go ahead: models in the order of their labels."""

    base: Checkpoint
    models: Mapping[str, Model]
    weights: LayerWeights | None  # outside_layers filled in; None where there are none
    resolve: Resolve
    dtype: str | None
    exempt_1d: bool

    @property
    def specs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name -> dtype and shape of what is written."""
        return {
            name: (self._dtype(info.dtype) if info.floating else info.dtype, info.shape)
            for name, info in self.base.tensors.items()
        }

    def _dtype(self, own: str) -> str:
        return self.dtype or ("BF16" if own in FP8 else own)

    def twin(self, name: str) -> str:
        """The tensor whose masks `name` uses: a tied head that is stored is the embeddings."""
        if name.endswith(_HEAD) and config_value(self.base.config, "tie_word_embeddings"):
            twins = [n for n in self.base.tensors if n.endswith(_EMBEDDINGS)]
            if len(twins) == 1:
                return twins[0]
        return name

    def close(self) -> None:
        """Close all files."""
        for model in (self.base, *self.models.values()):
            model.close()


@dataclass(frozen=True)
class Recipe:
    """What is to be merged and how, as configs say it (`merge` explains each)."""

    base: Path
    models: Mapping[str, Path]
    weights: LayerWeights | None = None
    outside_layers: Literal["mean", "base"] = "mean"
    resolve: Resolve | None = None
    dtype: str | None = None
    exempt_1d: bool = False


def prepare(recipe: Recipe, out: Path, options: Mapping[str, Any]) -> tuple[Plan, list[str]]:
    """Open and compare all models; returns the plan and notes for the user.

    Raises InputError, or RunError when the disk is too full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty; give a new folder for the merged model")
    if not recipe.models:
        raise InputError("merge: no models; at least one specialist is wanted")
    weights = None
    if recipe.weights is not None:
        weights = _ordered(recipe.weights, recipe.models, recipe.outside_layers)
    base = open_checkpoint(recipe.base)
    layers = weights.layers if weights else layers_in(base.config, base.folder)
    if weights:
        _check_layers(base, layers)
    others: dict[str, Model] = {}
    for label in sorted(recipe.models):
        folder = recipe.models[label]
        if is_adapter(folder):
            others[label] = open_adapter(folder, base)
        else:
            others[label] = open_checkpoint(folder)
            _check_model(label, others[label], base)
    resolve = recipe.resolve or _by_layer(weights, options)
    plan = Plan(base, others, weights, resolve, recipe.dtype, recipe.exempt_1d)
    _check_space(plan, out)
    return plan, _much(weights)


def _by_layer(weights: LayerWeights | None, options: Mapping[str, Any]) -> Resolve:
    """The weights of a tensor are those of its layer."""

    def resolve(name: str) -> Settings:
        if weights is None:
            return (), options
        layer = layer_of(name, weights.layers)
        if layer is None:
            return tuple(weights.outside_layers), options
        return tuple(row[layer] for row in weights.weights), options

    return resolve


def _much(weights: LayerWeights | None) -> list[str]:
    totals = [math.fsum(column) for column in zip(*weights.weights, strict=True)] if weights else []
    high = [layer for layer, total in enumerate(totals) if total > _MUCH]
    if not high:
        return []
    return [
        f"the weights of {len(high)} of {len(totals)} layers add up to more than {_MUCH} (layer "
        f"{high[0]}: {totals[high[0]]:.2f}); so much in all has broken models"
    ]


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
        if not all(abs(value) <= LARGEST["F32"] for value in (*row, extra)):
            raise InputError(
                f"layer weights: a weight of {label} is not a finite number of 32 bits"
            )


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


def _check_model(label: str, model: Model, base: Checkpoint) -> None:
    """The model is shaped like the base; raises InputError naming model and tensor."""
    where = f"{model.folder}: model {label}"
    layers, wanted = layers_in(model.config, model.folder), layers_in(base.config, base.folder)
    if layers != wanted:
        raise InputError(f"{where} has {layers} layers; the base has {wanted}")
    words, known = _vocabulary(model), _vocabulary(base)
    if words != known:
        raise InputError(f"{where} has a vocabulary of {words}; the base has {known}")
    _check_tokenizer(where, model.folder, base.folder)
    _check_tensors(where, model, base)


def _check_tokenizer(where: str, folder: Path, base: Path) -> None:
    """Both give each token the same number, as far as tokenizer.json says."""
    one, other = folder / "tokenizer.json", base / "tokenizer.json"
    if not one.is_file() or not other.is_file() or one.read_bytes() == other.read_bytes():
        return
    mine, theirs = _tokens(one), _tokens(other)
    differ = sorted(
        token for token in mine.keys() | theirs.keys() if mine.get(token) != theirs.get(token)
    )
    if differ:
        raise InputError(
            f"{where}: tokenizer.json differs from the base's: token {differ[0]!r} is "
            f"{mine.get(differ[0], 'missing')} there and {theirs.get(differ[0], 'missing')} in the "
            "base; rows of the embeddings would not match"
        )


def _tokens(path: Path) -> dict[str, Any]:
    """Token -> number."""
    try:
        content = json.loads(path.read_bytes())
        vocabulary = content["model"]["vocab"]
        if isinstance(vocabulary, list):  # of a Unigram model
            vocabulary = {entry[0]: number for number, entry in enumerate(vocabulary)}
        added = {e["content"]: e["id"] for e in content.get("added_tokens", ())}
        tokens = {**vocabulary, **added}
        sorted(tokens)  # all are strings
        return tokens
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise InputError(f"{path}: not a tokenizer that can be compared; copy the base's") from None


def _check_tensors(where: str, model: Model, base: Checkpoint) -> None:
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
        if name not in base.tensors and not _may_be_tied(name, model):
            raise InputError(f"{where}: tensor `{name}` is extra; the base does not have it")


def _vocabulary(model: Model) -> int | None:
    for key in ("vocab_size", "text_config.vocab_size"):
        value = config_value(model.config, key)
        if isinstance(value, int):
            return value
    return None


def _may_be_tied(name: str, model: Model) -> bool:
    """Whether `name` may be a tied head that was saved all the same."""
    twins = _twins(model)
    if not name.endswith(_HEAD) or len(twins) != 1:
        return False
    head, twin = model.tensors[name], model.tensors[twins[0]]
    return (head.dtype, head.shape) == (twin.dtype, twin.shape)


def _twins(model: Model) -> list[str]:
    return [name for name in model.tensors if name.endswith(_EMBEDDINGS)]


def check_tied(plan: Plan) -> None:
    """Heads that the base lacks are the embeddings, bit for bit: read, as headers do not tell.

    Raises InputError for one that is not; it would be dropped.
    """
    for label, model in plan.models.items():
        for name in model.tensors:
            if name not in plan.base.tensors and not same_bytes(
                name, model, _twins(model)[0], model
            ):
                raise InputError(
                    f"{model.folder}: model {label}: tensor `{name}` is extra; the base does not "
                    "have it, and it is no copy of the embeddings"
                )


def same_bytes(name: str, one: Model, other_name: str, other: Model) -> bool:
    """Whether two tensors of one dtype and shape are equal, compared piece by piece."""
    size = one.tensors[name].size
    for start in range(0, size, _PIECE):
        count = min(_PIECE, size - start)
        mine, theirs = one.raw(name, start, count), other.raw(other_name, start, count)
        if mine.tobytes() != theirs.tobytes():
            return False
    return True


def partial_of(out: Path) -> Path:
    """The folder that takes the place of `out` when it is complete."""
    target = out.resolve()
    return target.with_name(f".{target.name}.partial")


def _check_space(plan: Plan, out: Path) -> None:
    needed = sum(math.prod(shape) * SIZES[dtype] for dtype, shape in plan.specs.values())
    existing = next(folder for folder in (out, *out.parents) if folder.exists())
    partial = partial_of(out)  # of a merge that was killed
    held = sum(f.stat().st_blocks * 512 for f in partial.glob("*.safetensors"))
    free = shutil.disk_usage(existing).free + held
    if free < needed:
        raise RunError(
            f"{out}: the merged model takes {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB "
            "are free there"
        )

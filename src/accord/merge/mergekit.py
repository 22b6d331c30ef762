"""mergekit's YAML, read for the methods both tools have, with mergekit's own defaults.

Source: the configuration format of mergekit 0.1.5 (its README and behaviour). What is not read is
refused with the reason: a merge that quietly does something else is worse than none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from accord.errors import InputError
from accord.files.said import is_there, named, short
from accord.merge.checkpoint import layer_of
from accord.merge.headers import LARGEST
from accord.registry import suggest

_TOP = (
    "merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype",
    "tokenizer_source", "tokenizer", "random_seed",
)  # fmt: skip
_REFUSED = {
    "modules": "models of several modules are not merged",
    "chat_template": "the base's chat template is copied",
}
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# mergekit's defaults; None: there is none, so it has to be given.
_SPARSE = {"weight": None, "density": 1.0}
_DELTA = {"normalize": False, "lambda": 1.0}
_METHODS: dict[str, dict[str, Any]] = {
    "linear": {"weight": None, "normalize": True},
    "slerp": {"t": None},
    "task_arithmetic": {"weight": None, **_DELTA},
    "ties": {**_SPARSE, **_DELTA, "normalize": True, "rescale": False},
    "dare_ties": {**_SPARSE, **_DELTA, "rescale": True},
    "dare_linear": {**_SPARSE, **_DELTA, "rescale": True},
    "breadcrumbs": {**_SPARSE, **_DELTA, "gamma": 0.01, "rescale": False},
    "della": {**_SPARSE, **_DELTA, "normalize": True, "epsilon": 0.15, "rescale": True},
    "model_stock": {},
}
_ELECTING = ("ties", "dare_ties", "della")
_EACH = ("weight", "density", "gamma", "epsilon")  # a number for each model
_FLAGS = ("normalize", "rescale")
# Read and of no effect here: no mask is ever stored.
_IDLE: dict[str, tuple[str, ...]] = {
    "int8_mask": tuple(_METHODS),
    "density": ("task_arithmetic",),
    "rescale": ("task_arithmetic",),
}


@dataclass(frozen=True)
class Input:
    """A model as the file names it: a folder or hub name, an adapter on it, its parameters."""

    model: str
    adapter: str | None
    label: str
    parameters: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """What is to be opened: the adapter where there is one."""
        return self.adapter or self.model


@dataclass(frozen=True)
class MergekitConfig:
    """A merge as mergekit's YAML describes it."""

    method: str
    base: str
    inputs: tuple[Input, ...]  # without the base, by label
    parameters: Mapping[str, Any]
    dtype: str | None
    seed: int | None

    def settings(self, name: str, layers: int) -> tuple[tuple[float, ...], dict[str, Any]]:
        """Weights and options of one tensor, as `methods` take them."""
        layer = layer_of(name, layers)
        # mergekit: embeddings, final norm and head stand at the start of a gradient.
        at = 0.0 if layer is None else layer / (layers - 1) if layers > 1 else 1.0
        known = _METHODS[self.method]
        weights: tuple[float, ...] = ()
        options: dict[str, Any] = {}
        for key, default in known.items():
            if key in _EACH:
                values = tuple(self._value(key, default, name, at, one) for one in self.inputs)
                if key == "weight":
                    weights = values
                else:
                    options[key] = values
            elif key == "t":
                weights = (self._value("t", default, name, at, self.inputs[0]),)
            elif key != "rescale" or self.method != "della":  # it always rescales
                options["lambda_" if key == "lambda" else key] = self._value(
                    key, default, name, at, None
                )
        if self.method in _ELECTING:
            options["elect"] = "weighted"
        return weights, options

    def _value(self, key: str, default: Any, name: str, at: float, one: Input | None) -> Any:
        scopes = ([one.parameters] if one else []) + [self.parameters]
        for scope in scopes:
            if key in scope:
                found = _evaluate(scope[key], name, at, key)
                if found is not None:
                    return _checked(found, key)
        if default is None:
            who = f" of {one.label}" if one else ""
            raise InputError(f"parameters.{key}{who}: missing for tensor `{name}`")
        return default


def read_mergekit(tree: Mapping[str, Any], where: str) -> MergekitConfig:
    """Read the tree of a YAML file. Raises InputError, which begins with `where`."""
    try:
        return _read(tree)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _read(tree: Mapping[str, Any]) -> MergekitConfig:
    for key in tree:
        if key in _REFUSED:
            raise InputError(f"{key}: is not read: {_REFUSED[key]}; leave it out")
        if key not in _TOP:
            raise InputError(f"{key}: mergekit has no such key; {suggest(str(key), _TOP)}")
    method = tree.get("merge_method")
    if not isinstance(method, str) or method not in _METHODS:
        raise InputError(
            f"merge_method: {named(method)} is not read; {suggest(str(method), _METHODS)}"
        )
    _check_tokenizer(tree)
    parameters = _parameters(tree.get("parameters"), "parameters", method)
    inputs = _inputs(tree, method)
    base, inputs = _split(tree.get("base_model"), inputs, method)
    return MergekitConfig(
        method,
        base,
        tuple(sorted(inputs, key=lambda one: one.label)),
        parameters,
        _dtype(tree),
        _seed(tree.get("random_seed")),
    )


def _split(base: Any, inputs: Sequence[Input], method: str) -> tuple[str, list[Input]]:
    """The base and the models beside it."""
    if base is not None and not isinstance(base, str):
        raise InputError(f"base_model: found {short(base)}; a path or a name is wanted")
    if method == "linear":
        # A mean has no base; deltas are counted from the first model, which changes nothing.
        first = min(inputs, key=lambda one: one.label)
        return first.model, list(inputs)
    if base is None:
        raise InputError(f"base_model: missing; {method} needs one")
    others = [one for one in inputs if one.adapter or one.model != base]
    for one in others:
        if one.adapter and one.model != base:
            raise InputError(
                f"models: {one.model}+{one.adapter}: the adapter of another model than base_model; "
                "merge it into that model first"
            )
    if not others:
        raise InputError("models: none beside the base_model")
    if method == "slerp" and len(others) != 1:
        raise InputError(f"models: slerp takes one beside the base_model, not {len(others)}")
    return base, others


def _inputs(tree: Mapping[str, Any], method: str) -> list[Input]:
    if ("models" in tree) == ("slices" in tree):
        raise InputError("models: one of `models` and `slices` is wanted")
    entries = tree["models"] if "models" in tree else _sources(tree["slices"])
    if not isinstance(entries, list) or not entries:
        raise InputError("models: a list of models is wanted")
    read: list[tuple[str, str | None, str | None, Mapping[str, Any]]] = []
    for number, entry in enumerate(entries):
        place = f"models[{number}]"
        model = entry.get("model") if isinstance(entry, Mapping) else None
        if not isinstance(model, str) or model[:1] in ("", "+"):
            raise InputError(f"{place}: `model: PATH` is wanted")
        for key in entry:
            if key not in ("model", "parameters", "name", "layer_range"):
                raise InputError(f"{place}.{key}: mergekit has no such key")
        model, _, adapter = model.partition("+")
        given = _parameters(entry.get("parameters"), f"{place}.parameters", method)
        name = entry.get("name")
        read.append((model, adapter or None, None if name is None else str(name), given))
    labels = make_labels([(adapter or model, name) for model, adapter, name, _ in read])
    return [
        Input(model, adapter, label, given)
        for (model, adapter, _, given), label in zip(read, labels, strict=True)
    ]


def make_labels(named: Sequence[tuple[str, str | None]]) -> list[str]:
    """A label for each (path, name): its name, or the shortest suffix of its path that is unique.

    Raises InputError where two are equal.
    """
    labels = []
    paths = [PurePath(path).parts for path, _ in named]
    for number, (path, name) in enumerate(named):
        if name is not None:
            labels.append(name)
            continue
        others = [parts for n, parts in enumerate(paths) if n != number]
        parts = paths[number]
        for length in range(1, len(parts) + 1):
            if all(other[-length:] != parts[-length:] for other in others):
                break
        else:
            raise InputError(f"models: {path} is there twice; give one of them a `name`")
        labels.append("/".join(parts[-length:]))
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"models: two are called {label}; give one of them another `name`")
    return labels


def _sources(slices: Any) -> list[Any]:
    """The inputs of one slice that is the whole model; anything else is a model of other layers."""
    if not isinstance(slices, list) or len(slices) != 1 or not isinstance(slices[0], Mapping):
        raise InputError(
            "slices: more than one slice makes a model of other layers; only merges of whole "
            "models are read"
        )
    sources = slices[0].get("sources")
    extra = [key for key in slices[0] if key not in ("sources", "parameters")]
    if not isinstance(sources, list) or extra or slices[0].get("parameters"):
        raise InputError("slices[0]: `sources` alone is read; put parameters at the top")
    return sources


def full_ranges(tree: Mapping[str, Any], layers: int) -> None:
    """Raise InputError unless each layer_range is the whole model."""
    for entry in _sources(tree["slices"]) if "slices" in tree else ():
        found = entry.get("layer_range", [0, layers])
        if found != [0, layers]:
            raise InputError(
                f"slices: layer_range {short(found)} is a part of {layers} layers; only "
                "merges of whole models are read"
            )


def _parameters(given: Any, place: str, method: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(f"{place}: a mapping is wanted")
    known = _METHODS[method]
    kept = {}
    for key, value in given.items():
        if key in known:
            kept[str(key)] = value
        elif key == "filter_wise" and value in (False, None):
            continue
        elif method not in _IDLE.get(str(key), ()):
            raise InputError(
                f"{place}.{key}: {method} is read without it; {suggest(str(key), known)}"
            )
    return kept


def _check_tokenizer(tree: Mapping[str, Any]) -> None:
    source = tree.get("tokenizer_source")
    tokenizer = tree.get("tokenizer")
    if isinstance(tokenizer, Mapping):
        if set(tokenizer) - {"source"}:
            raise InputError("tokenizer: only `source: base` is read; tokens are not added")
        source = tokenizer.get("source")
    elif tokenizer is not None:
        raise InputError("tokenizer: only `source: base` is read")
    if source not in (None, "base", tree.get("base_model")):
        raise InputError(
            f"tokenizer_source: {named(source)} is not read; all models must share the base's "
            "tokenizer, which is copied (`base`)"
        )


def _dtype(tree: Mapping[str, Any]) -> str | None:
    value = tree.get("out_dtype") or tree.get("dtype")
    if value is None:
        return None
    if not isinstance(value, str) or value not in _DTYPES:
        raise InputError(f"dtype: found {short(value)}; {', '.join(_DTYPES)} are read")
    return _DTYPES[value]


def _seed(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise InputError(f"random_seed: found {short(value)}; a whole number from 0 is wanted")


def _evaluate(setting: Any, name: str, at: float, key: str) -> Any:
    """A number, a gradient over the layers, or the first whose filter is in the tensor's name."""
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, list):
        return setting
    if not setting:
        return None
    if not any(isinstance(value, Mapping) for value in setting):
        values = [_number(value, key) for value in setting]
        if key in _FLAGS:
            return setting[int(at * (len(setting) - 1))]
        step = at * (len(values) - 1)
        low = int(step)
        part = step - low
        return (1 - part) * values[low] + part * values[min(len(values) - 1, low + 1)]
    for condition in setting:
        if not isinstance(condition, Mapping) or "value" not in condition:
            raise InputError(f"parameters.{key}: `filter` and `value` are wanted in each entry")
        wanted = condition.get("filter")
        if wanted is None or wanted == "*" or str(wanted) in name:
            found = _evaluate(condition["value"], name, at, key)
            if found is not None:
                return found
    return None


def _number(value: Any, key: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"parameters.{key}: found {short(value)}; a number is wanted") from None
    if not abs(number) <= LARGEST["F32"]:
        raise InputError(
            f"parameters.{key}: found {short(value)}; a finite number of 32 bits is wanted"
        )
    return number


def _checked(value: Any, key: str) -> Any:
    if key in _FLAGS:
        if value not in (True, False):
            raise InputError(f"parameters.{key}: found {short(value)}; true or false is wanted")
        return bool(value)
    number = _number(value, key)
    if key == "density" and not 0 < number <= 1:
        raise InputError(f"parameters.density: found {value!r}; a number in (0, 1] is wanted")
    if key == "gamma" and not 0 <= number < 1:
        raise InputError(f"parameters.gamma: found {value!r}; a number in [0, 1) is wanted")
    if key == "epsilon" and not 0 <= number < 0.5:
        raise InputError(f"parameters.epsilon: found {value!r}; a number in [0, 0.5) is wanted")
    return number


def resolve_path(model: str, home: Path) -> str:
    """A folder relative to the file, if there is one; else a name of the hub."""
    beside = home / model
    return str(beside) if is_there(beside) else model

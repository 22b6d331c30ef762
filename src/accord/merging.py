"""`accord merge CONFIG`: the config is ours, or mergekit's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accord.config import Merge, Section
from accord.configfile import read_yaml, resolve_model_path
from accord.errors import InputError
from accord.merge.checkpoint import count_layers
from accord.merge.mergekit import full_ranges, read_mergekit, resolve_path
from accord.merge.stage import check, merge
from accord.models.locate import locate
from accord.progress import SILENT, Progress
from accord.records import LayerWeights, explain, read_weights


class MergeConfig(Section):
    """What `accord merge` reads: the shape of the merge_config.yaml in a merged model's folder."""

    base: str
    models: dict[str, str]
    layer_weights: Path | float | None = Path("layer_weights.json")
    merge: Merge = Merge()
    seed: int = 0


def is_merge(tree: Mapping[str, Any]) -> bool:
    """Whether a YAML tree describes a merge rather than a run."""
    return "merge_method" in tree or ("models" in tree and "data" not in tree)


def merge_file(
    path: Path, out: Path, seed: int | None, progress: Progress = SILENT, **how: Any
) -> tuple[str, ...]:
    """Merge as a YAML file says; returns notes for the user.

    `how` goes to `merge`: threads, kernel, allow_nonfinite, fsync. Raises InputError, RunError.
    """
    given = arguments(path, seed)
    return merge(out=out, progress=progress, **given, **how)


def check_merge(path: Path, seed: int | None, out: Path) -> list[str]:
    """All that headers tell about a merge; returns notes. Raises InputError, RunError."""
    return check(out=out, **arguments(path, seed))


def arguments(path: Path, seed: int | None) -> dict[str, Any]:
    """The arguments of `merge` that a YAML file gives.

    `layer_weights` is a file, one number for all layers, or null for a method without weights.
    """
    tree = read_yaml(path)
    if "data" in tree:
        raise InputError(
            f"{path}: is the config of a run: merge it there with `accord run {path} --until "
            "merge`, or give a file with base, models, layer_weights, merge and seed"
        )
    if "merge_method" in tree:
        return _of_mergekit(tree, path, seed)
    try:
        settings = MergeConfig.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None
    home = path.resolve().parent
    base = locate(resolve_model_path(settings.base, home), "base")
    models = {
        name: locate(resolve_model_path(folder, home), f"models.{name}", adapters=True)
        for name, folder in settings.models.items()
    }
    weights = None
    if isinstance(settings.layer_weights, Path):
        weights = read_weights(home / settings.layer_weights)
    elif settings.layer_weights is not None:
        layers = count_layers(base)
        flat = tuple((settings.layer_weights,) * layers for _ in models)
        weights = LayerWeights(models=tuple(models), layers=layers, weights=flat)
    return {
        "base": base,
        "models": models,
        "weights": weights,
        "method": settings.merge.method,
        "options": settings.merge.options,
        "outside_layers": settings.merge.outside_layers,
        "dtype": settings.merge.dtype,
        "exempt_1d": settings.merge.exempt_1d,
        "seed": settings.seed if seed is None else seed,
    }


def _of_mergekit(tree: Mapping[str, Any], path: Path, seed: int | None) -> dict[str, Any]:
    config = read_mergekit(tree, str(path))
    home = path.resolve().parent
    base = locate(resolve_path(config.base, home), "base_model")
    layers = count_layers(base)
    try:
        full_ranges(tree, layers)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    models = {
        one.label: locate(resolve_path(one.folder, home), f"models: {one.label}", adapters=True)
        for one in config.inputs
    }

    def resolve(name: str) -> tuple[tuple[float, ...], dict[str, Any]]:
        try:
            return config.settings(name, layers)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    return {
        "base": base,
        "models": models,
        "weights": None,
        "method": config.method,
        "resolve": resolve,
        "dtype": config.dtype,
        "seed": next((n for n in (seed, config.seed) if n is not None), 0),
        "source": path.read_text(encoding="utf-8"),
    }

"""The commands that work on files of the user's, outside any run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accord.config import Merge, Section
from accord.configfile import read_yaml, resolve_model_path
from accord.errors import InputError
from accord.progress import Progress
from accord.records import (
    Question,
    explain,
    read_records,
    require_unique,
    write_records,
)


def vary_file(
    qa: Path,
    out: Path,
    types: Sequence[str],
    endpoint: Mapping[str, Any],
    seed: int,
    progress: Progress,
) -> dict[str, dict[str, int]]:
    """Write variations of a file's questions to `out`, the others to STEM.skipped.jsonl."""
    from accord.vary.stage import vary

    if "semantic" in types and not (endpoint["base_url"] and endpoint["model"]):
        raise InputError("vary: semantic needs an endpoint: give --base-url and --model")
    questions = read_records(qa, Question)
    require_unique(questions, str(qa))
    kinds = [(t, dict(endpoint) if t == "semantic" else {}) for t in types]
    made, skipped = vary(questions, kinds, seed=seed, progress=progress)
    write_records(out, made)
    write_records(out.with_name(f"{out.stem}.skipped.jsonl"), skipped)
    done, left = Counter(v.type for v in made), Counter(s.type for s in skipped)
    return {t: {"made": done[t], "skipped": left[t]} for t in types}


class MergeConfig(Section):
    """What `accord merge` reads: the shape of the merge_config.yaml in a merged model's folder."""

    base: str
    models: dict[str, str]
    layer_weights: Path | float = Path("layer_weights.json")
    merge: Merge = Merge()
    seed: int = 0


def merge_file(path: Path, out: Path, seed: int | None, progress: Progress) -> tuple[str, ...]:
    """Merge as a YAML file says; `layer_weights` is a file or one number for all layers."""
    from accord.merge.checkpoint import count_layers
    from accord.merge.stage import merge
    from accord.models.locate import locate
    from accord.records import LayerWeights
    from accord.stages import read_weights

    tree = read_yaml(path)
    if "data" in tree:
        raise InputError(
            f"{path}: is the config of a run: merge it there with `accord run {path} --until "
            "merge`, or give a file with base, models, layer_weights, merge and seed"
        )
    try:
        settings = MergeConfig.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None
    home = path.resolve().parent
    base = locate(resolve_model_path(settings.base, home), "base")
    models = {
        name: locate(resolve_model_path(folder, home), f"models.{name}")
        for name, folder in settings.models.items()
    }
    if isinstance(settings.layer_weights, Path):
        weights = read_weights(home / settings.layer_weights)
    else:
        layers = count_layers(base)
        flat = tuple((settings.layer_weights,) * layers for _ in models)
        weights = LayerWeights(models=tuple(models), layers=layers, weights=flat)
    return merge(
        base,
        models,
        weights,
        out,
        method=settings.merge.method,
        options=settings.merge.options,
        outside_layers=settings.merge.outside_layers,
        seed=settings.seed if seed is None else seed,
        progress=progress,
    )

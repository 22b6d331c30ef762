"""What a model folder holds beside its weights: config, tokenizer, how it was made, a card."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from accord.merge.preflight import Plan
from accord.records import LayerWeights, write_json, write_text

# Copied from the base by name and by suffix: never weights, never code.
_NAMES = (
    "config.json",
    "generation_config.json",
    "chat_template.*",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges*",
    "*.model",
    "*processor_config.json",
)
_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".tiktoken"}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_TOKENIZER = {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"}


def write_companions(
    folder: Path,
    plan: Plan,
    *,
    name: str,
    method: str,
    options: Mapping[str, Any],
    seed: int,
    source: str | None = None,
) -> list[str]:
    """Write everything but the weights into `folder`; returns notes for the user.

    `source`: the text of a mergekit config that the merge was made from.
    """
    notes = _copy(plan.base.folder, folder)
    _mend_config(folder / "config.json", plan)
    if source is not None:
        write_text(folder / "mergekit_config.yml", source)
    else:
        _write_recipe(folder, plan, method, options, seed)
    write_text(folder / "README.md", model_card(plan, name, method, options, seed))
    return notes


def _write_recipe(
    folder: Path, plan: Plan, method: str, options: Mapping[str, Any], seed: int
) -> None:
    """`accord merge merge_config.yaml -o DIR` makes the same model again."""
    weights = plan.weights
    if weights:
        write_json(
            folder / "layer_weights.json", weights.model_dump(mode="json", exclude_unset=True)
        )
    further: dict[str, Any] = {"dtype": plan.dtype} if plan.dtype else {}
    further |= {"exempt_1d": True} if plan.exempt_1d else {}
    made = {
        "base": str(plan.base.folder),
        "models": {label: str(model.folder) for label, model in plan.models.items()},
        "layer_weights": "layer_weights.json" if weights else None,
        "merge": {"method": method, **further, **options},
        "seed": seed,
    }
    write_text(folder / "merge_config.yaml", _yaml(made))


def _mend_config(path: Path, plan: Plan) -> None:
    """config.json says what most weights are now, their dtype, and that they are not in fp8."""
    config = dict(plan.base.config)
    quantised = config.pop("quantization_config", None)
    if quantised is None and plan.dtype is None:
        return
    sizes: Counter[str] = Counter()
    for dtype, shape in plan.specs.values():
        if dtype in _DTYPES:
            sizes[dtype] += math.prod(shape)
    if sizes:
        key = "torch_dtype" if "torch_dtype" in config else "dtype"
        config[key] = _DTYPES[sizes.most_common(1)[0][0]]
    write_json(path, config)


def _copy(base: Path, folder: Path) -> list[str]:
    names = {file.name for pattern in _NAMES for file in base.glob(pattern) if file.is_file()}
    for name in sorted(names):
        if Path(name).suffix in _SUFFIXES and not name.endswith(".index.json"):
            shutil.copyfile(base / name, folder / name)
    if names & _TOKENIZER or any(name.endswith(".tiktoken") for name in names):
        return []
    return [f"{base}: the base has no tokenizer files, so the merged model has none"]


def model_card(plan: Plan, name: str, method: str, options: Mapping[str, Any], seed: int) -> str:
    """README.md: YAML front matter for the model hub, then how the model was made."""
    base = hub_name(plan.base.folder)
    front: dict[str, Any] = {"base_model": base, "library_name": "transformers"}
    front |= licence(plan.base.folder)
    front["tags"] = ["merge", "accord", method]
    # Weights and options of a mergekit config are those of each tensor.
    shown = {} if plan.weights is None and options else options
    settings = ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in shown.items())
    labels = ", ".join(plan.models)
    how = "`merge_config.yaml` says how" if plan.weights else "The config beside this file says how"
    also = (
        ", `layer_weights.json` holds the weight of each model in each layer"
        if plan.weights
        else ""
    )
    return (
        f"---\n{_yaml(front)}---\n\n# {name}\n\n"
        f"A layer-wise merge of specialists ({labels}) of `{base}`, made by accord with "
        f"`{method}`{f' ({settings})' if settings else ''} and seed {seed}. {how}{also}.\n"
        f"{_ranges(plan.weights) if plan.weights else ''}"
    )


def _ranges(weights: LayerWeights) -> str:
    lines = [
        f"\nWeights in the {weights.layers} layers:\n",
        "| specialist | lowest | mean | highest | outside the layers |",
        "|---|---|---|---|---|",
    ]
    for label, row, outside in zip(
        weights.models, weights.weights, weights.outside_layers, strict=True
    ):
        mean = sum(row) / len(row)
        lines.append(f"| {label} | {min(row):.4f} | {mean:.4f} | {max(row):.4f} | {outside:.4f} |")
    return "\n".join(lines) + "\n"


def hub_name(folder: Path) -> str:
    """The hub id of a folder in the hub's cache (models--ORG--NAME/snapshots/...), else its name.

    Never a path: a card is published, and says nothing of the machine it was written on.
    """
    for part in folder.resolve().parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return folder.resolve().name


def licence(base: Path) -> dict[str, Any]:
    """`license` and its companions from the front matter of the base's README.md, if any."""
    try:
        text = (base / "README.md").read_text(encoding="utf-8")
        _, front, _ = text.split("---", 2) if text.startswith("---") else ("", "", "")
        fields = yaml.safe_load(front)
    except (OSError, ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError):
        return {}  # no card, or one that is not ours to mend
    if not isinstance(fields, dict) or "license" not in fields:
        return {}
    return {k: fields[k] for k in ("license", "license_name", "license_link") if k in fields}


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)

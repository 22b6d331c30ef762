"""What a model folder holds beside its weights: config, tokenizer, how it was made, a card."""

import json
import shutil
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
_TOKENIZER = {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"}


def write_companions(
    folder: Path, plan: Plan, *, name: str, method: str, options: Mapping[str, Any], seed: int
) -> list[str]:
    """Write everything but the weights into `folder`; returns notes for the user."""
    notes = _copy(plan.base.folder, folder)
    write_json(
        folder / "layer_weights.json", plan.weights.model_dump(mode="json", exclude_unset=True)
    )
    made = {
        "base": str(plan.base.folder),
        "models": {label: str(model.folder) for label, model in plan.models.items()},
        "layer_weights": "layer_weights.json",
        "merge": {"method": method, **options},
        "seed": seed,
    }
    # `accord merge merge_config.yaml -o DIR` makes the same model again.
    write_text(folder / "merge_config.yaml", _yaml(made))
    write_text(folder / "README.md", model_card(plan, name, method, options, seed))
    return notes


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
    settings = ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in options.items())
    labels = ", ".join(plan.weights.models)
    return (
        f"---\n{_yaml(front)}---\n\n# {name}\n\n"
        f"A layer-wise merge of specialists ({labels}) of `{base}`, made by accord with "
        f"`{method}` ({settings}) and seed {seed}. `merge_config.yaml` says how, "
        "`layer_weights.json` holds the weight of each model in each layer.\n\n"
        f"{_ranges(plan.weights)}"
    )


def _ranges(weights: LayerWeights) -> str:
    lines = [
        f"Weights in the {weights.layers} layers:\n",
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
    except (OSError, ValueError, yaml.YAMLError):
        return {}  # no card, or one that is not ours to mend
    if not isinstance(fields, dict) or "license" not in fields:
        return {}
    return {k: fields[k] for k in ("license", "license_name", "license_link") if k in fields}


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)

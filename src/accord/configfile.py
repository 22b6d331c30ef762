"""From a YAML file to a checked config: overrides, secrets refused, components' options, paths."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from accord.config import ComponentSection, Config, Generate, Limit, Merge, Retrieve, Train, Weigh
from accord.errors import InputError
from accord.files.hub import is_hub
from accord.files.said import is_there, is_unicode
from accord.records import explain
from accord.registry import check_options, component, suggest

_SECRET = re.compile(r"(?i)(^|[_-])(api_?key|key|token|secret|password|authorization)$")
_CREDENTIALS = re.compile(r"(?i)://[^/@\s]+@|://[^\s]*[?&][\w-]*(key|token|secret|password)=")
_HEADER = re.compile(r"(?i)[\w-]*(key|token|secret|password|authorization|cookie)\s*:[^$]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_VALUES = 200_000
S = TypeVar("S", ComponentSection, Retrieve, Train, Weigh, Merge, Generate)


def load_config(
    path: Path, overrides: Sequence[str] = (), *, seed: int | None = None, limit: int | None = None
) -> Config:
    """Read, override, validate and resolve a config; relative paths are relative to the file.

    Raises InputError naming file and field.
    """
    tree = read_yaml(path)
    for override in overrides:
        _set(tree, override)
    if seed is not None:
        tree["seed"] = seed
    _refuse_secrets(tree, str(path))
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: {_explain(error)}") from None
    if limit is not None:
        config = _limited(config, limit)
    home = path.resolve().parent
    return _resolved(_checked(config, str(path), home), home)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `accord init` writes one to start from") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give the YAML file in it") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise InputError(f"{path}{line}: {problem}") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # PyYAML's own, of a date, number or tag that is none
        raise InputError(f"{path}: not valid YAML ({error})") from None
    try:
        _check_size(tree, path, [_MOST_VALUES])
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply, or an alias is within itself") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: a mapping of sections is wanted, as `accord init` writes it")
    return tree


def _check_size(value: Any, path: Path, left: list[int]) -> None:
    """Raise InputError for more values than a config has, aliases counted each time, or huge ones.

    `left`: how many more there may be.
    """
    left[0] -= 1
    if left[0] < 0:
        raise InputError(f"{path}: holds more than {_MOST_VALUES} values; aliases of aliases?")
    if isinstance(value, int) and value.bit_length() > 64:
        raise InputError(f"{path}: holds a whole number of more than 64 bits")
    if isinstance(value, str) and not is_unicode(value):
        raise InputError(f"{path}: holds text that is not Unicode (a lone surrogate)")
    if isinstance(value, dict):
        for pair in value.items():
            _check_size(pair, path, left)
    elif isinstance(value, (list, tuple, set)):
        for child in value:
            _check_size(child, path, left)


def _set(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise InputError("--set: the form is a.b=value")  # what was given may hold a key
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set {name}: the value is not valid YAML") from None
    *parents, last = name.split(".")
    node = tree
    for part in parents:
        child = node.get(part)
        node[part] = child if isinstance(child, dict) else {}
        node = node[part]
    node[last] = value


def _refuse_secrets(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for name, child in value.items():
            place = f"{where}: {name}" if ": " not in where else f"{where}.{name}"
            if _SECRET.search(str(name)) and isinstance(child, str) and child:
                raise InputError(
                    f"{place}: a literal key in a config; put the key in an environment "
                    "variable and name it with `api_key_env: NAME`"
                )
            if str(name).endswith("_env") and not _VARIABLE.fullmatch(str(child)):
                raise InputError(f"{place}: the name of an environment variable is wanted")
            _refuse_secrets(child, place)
    elif isinstance(value, list):
        for number, child in enumerate(value):
            _refuse_secrets(child, f"{where}[{number}]")
    elif isinstance(value, str) and _HEADER.fullmatch(value):
        raise InputError(
            f"{where}: a header with a literal key in a config; put the key in an environment "
            "variable and write `Name: $VARIABLE`, or name the variable with `api_key_env: NAME`"
        )
    elif isinstance(value, str) and _CREDENTIALS.search(value):
        raise InputError(
            f"{where}: a URL with a password in a config; leave it out and name an environment "
            "variable with `api_key_env: NAME`"
        )


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    path = [part for part in first["loc"] if isinstance(part, str)]
    field = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"{field}: unknown key; {suggest(path[-1], _fields(path[:-1]))}"
    if first["type"] == "missing":
        return f"{field}: is missing"
    if first["type"] == "value_error":
        return f"{field}: {first['msg'].removeprefix('Value error, ')}"
    return explain(error).replace("field `", "`", 1)


def _fields(path: list[str]) -> list[str]:
    section: Any = Config
    for part in path:
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        inner = [a for a in getattr(annotation, "__args__", (annotation,)) if _is_section(a)]
        if not inner:
            return []
        (section,) = inner
    return list(section.model_fields)


def _is_section(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _checked(config: Config, where: str, home: Path) -> Config:
    """The config with the options of every component checked, and of its signature's types."""

    def typed(kind: str, name: str, section: S, place: str) -> S:
        known = () if kind == "variations" else type(section).model_fields
        given = _check(kind, name, section.options, f"{where}: {place}", known)
        paths = {o: home / v for o, v in given.items() if isinstance(v, Path)}
        return section.model_copy(update=given | paths)

    for kind in config.vary.types:
        if isinstance(kind, str):
            component("variations", kind, f"{where}: vary.types")
    types = tuple(
        t if isinstance(t, str) else typed("variations", t.type, t, "vary.types")
        for t in config.vary.types
    )
    component("similarities", config.weigh.similarity, f"{where}: weigh.similarity")
    _check_specialists(config, where)
    return config.model_copy(
        update={
            "vary": config.vary.model_copy(update={"types": types}),
            "retrieve": typed("retrievers", config.retrieve.type, config.retrieve, "retrieve"),
            "train": typed("losses", config.train.loss, config.train, "train"),
            "weigh": typed("weightings", config.weigh.type, config.weigh, "weigh"),
            "merge": typed("methods", config.merge.method, config.merge, "merge"),
            "generate": typed("backends", config.generate.backend, config.generate, "generate"),
        }
    )


def _check_specialists(config: Config, where: str) -> None:
    names = {name for name, _ in config.vary.components()}
    for row, types in config.train.specialists.items():
        for wanted in types:
            if wanted not in names and not config.data.variations:
                raise InputError(
                    f"{where}: train.specialists.{row}: `{wanted}` is not among vary.types; "
                    f"{suggest(wanted, names)}"
                )


def _check(
    kind: str, name: str, options: dict[str, Any], where: str, own: Iterable[str]
) -> dict[str, Any]:
    found = component(kind, name, where)
    for option in options:
        if option not in found.options:
            known = set(found.options) | set(own)
            raise InputError(
                f"{where}.{option}: `{name}` has no such option; {suggest(option, known)}"
            )
    return check_options(found, options, where)


def _limited(config: Config, limit: int) -> Config:
    if limit < 1:
        raise InputError(f"--limit {limit}: at least 1 is wanted")
    old = config.data.limit or Limit()
    least = {s: min(limit, getattr(old, s) or limit) for s in ("train", "dev", "test")}
    data = config.data.model_copy(update={"limit": Limit(**least)})
    return config.model_copy(update={"data": data})


def _resolved(config: Config, home: Path) -> Config:
    def absolute(path: Path) -> Path:
        return path if path.is_absolute() or is_hub(path) else home / path

    data = config.data.model_copy(
        update={
            name: tuple(absolute(p) for p in getattr(config.data, name))
            for name in ("qa", "passages", "variations", "contexts")
        }
    )
    prompt = config.prompt
    if prompt.template is not None:
        prompt = prompt.model_copy(update={"template": absolute(prompt.template)})
    retrieve = config.retrieve
    if retrieve.encoder is not None:
        encoder = resolve_model_path(retrieve.encoder, home)
        retrieve = retrieve.model_copy(update={"encoder": encoder})
    return config.model_copy(
        update={
            "data": data,
            "prompt": prompt,
            "retrieve": retrieve,
            "base": resolve_model_path(config.base, home),
            "encoder": resolve_model_path(config.encoder, home),
        }
    )


def resolve_model_path(name: str, home: Path) -> str:
    """A local model folder relative to the config becomes absolute; other names stay.

    A name that exists as a folder, or that starts like a path, is a path; `package:NAME` is an
    embedded model; anything else is an id on the model hub.
    """
    if name.startswith("package:"):
        return name
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # the home of nobody
        path = Path(name)
    if path.is_absolute() or name.startswith(("./", "../", "~")) or is_there(home / path):
        return str(home / path)
    return name

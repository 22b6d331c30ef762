"""The config: one typed tree with a section for each stage, in the order of the data.

Precedence: defaults < YAML < `--set a.b=value`. Unknown keys are errors that name the nearest
right one. Where a section has a `type`, its further keys are options of that component.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from accord.errors import InputError
from accord.records import explain
from accord.registry import check_options, component, suggest

STAGES = ("vary", "retrieve", "train", "weigh", "merge", "generate", "evaluate", "report")
_SECRET = re.compile(r"(?i)(^|[_-])(api_?key|key|token|secret|password|authorization)$")
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Section(BaseModel):
    """A part of the config. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ComponentSection(Section):
    """A section that selects a component by `type`; further keys are that component's options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str = Field(description="the name of the component, as `accord list` shows it")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the component as given, without those of the section itself."""
        return dict(self.model_extra or {})


class Prompt(Section):
    """How a question and its passages become a prompt; the same for training and generation."""

    template: Path | None = Field(None, description="a jinja2 file; null: the built-in one")
    max_tokens: int | None = Field(
        None, ge=32, description="prompt budget; null: what the model's window leaves"
    )


class Shares(Section):
    """Shares of the questions that carry no `split` of their own."""

    train: float = Field(0.6, ge=0, description="what the specialists learn from")
    dev: float = Field(0.15, ge=0, description="what the layer weights are made from")
    test: float = Field(0.25, ge=0, description="what the table is measured on")

    @model_validator(mode="after")
    def _sum(self) -> "Shares":
        if abs(self.train + self.dev + self.test - 1) > 1e-6:
            raise ValueError("the shares train, dev and test must sum to 1")
        return self


class Limit(Section):
    """At most so many questions of each split, the first ones; null: all."""

    train: int | None = Field(None, ge=1, description="training questions; null: all")
    dev: int | None = Field(None, ge=1, description="development questions; null: all")
    test: int | None = Field(None, ge=1, description="test questions; null: all")


class Data(Section):
    """Questions with reference answers, the passages, and frozen variations."""

    qa: tuple[Path, ...] = Field(
        min_length=1, description="questions: one JSONL file or a list of them"
    )
    passages: tuple[Path, ...] = Field((), description="the collection that is searched")
    variations: tuple[Path, ...] = Field((), description="variations used as they are")
    split: Shares = Field(Shares(), description="shares of questions without their own `split`")
    limit: Limit | None = Field(None, description="a smaller data set; null: all of it")

    @model_validator(mode="before")
    @classmethod
    def _as_lists(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = dict(value)
            for name in ("qa", "passages", "variations"):
                if name in value and not isinstance(value[name], list | tuple):
                    value[name] = [] if value[name] is None else [value[name]]
        return value


class Vary(Section):
    """Which kinds of variation to make."""

    types: tuple[str | ComponentSection, ...] = Field(
        ("how_to_do", "i_we", "singular_plural_article", "semantic"),
        description="names of variations, or {type: NAME, option: value}",
    )
    max_per_question: int | None = Field(None, ge=1, description="keep at most so many wordings")

    def components(self) -> list[tuple[str, dict[str, Any]]]:
        """(name, options) of each kind, in order."""
        return [(t, {}) if isinstance(t, str) else (t.type, t.options) for t in self.types]


class Retrieve(ComponentSection):
    """The retriever, and how many passages each wording gets."""

    type: str = Field("bm25", description="the retriever; further keys are its options")
    k: int = Field(3, ge=1, description="passages for each wording")


class Train(Section):
    """Specialists: cross-entropy on answer tokens + alpha * triplet."""

    loss: Literal["ce", "triplet"] = Field(
        "triplet", description="ce: cross-entropy only; triplet: with the triplet loss"
    )
    alpha: float = Field(0.1, ge=0, description="weight of the triplet loss")
    margin: float = Field(0.5, gt=0, description="margin of the triplet loss")
    epochs: int = Field(2, ge=1, description="passes over the training examples")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of AdamW")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps with a rising rate")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    batch_size: int = Field(16, ge=1, description="examples in one optimizer step")
    micro_batch_size: int = Field(4, ge=1, description="examples in one forward pass")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16: autocast, fp32 weights")
    gradient_checkpointing: bool = Field(False, description="less memory for more time")
    specialists: dict[str, tuple[str, ...]] = Field(
        {"HTD": ("how_to_do", "i_we"), "SEM": ("semantic",), "SPA": ("singular_plural_article",)},
        min_length=1,
        description="a specialist for each entry: base set + variations of these types",
    )

    @model_validator(mode="after")
    def _sizes(self) -> "Train":
        if self.batch_size % self.micro_batch_size:
            raise ValueError("batch_size must be a multiple of micro_batch_size")
        taken = {"B", "SFT", "SFT+TL", "ALL", "Merged"} & set(self.specialists)
        if taken:
            raise ValueError(f"specialist `{min(taken)}` has the name of another row")
        for name in self.specialists:
            if not re.fullmatch(r"[\w.+-]{1,64}", name) or name.startswith("."):
                raise ValueError(f"specialist `{name}`: letters, digits and _ . + - only")
        return self


class Weigh(ComponentSection):
    """Layer weights (Algorithm 1)."""

    type: str = Field("paper", description="the weighting; further keys are its options")
    similarity: str = Field("standardized", description="of two layers' views of the queries")
    pool: Literal["max", "mean", "last"] = Field("max", description="tokens to one vector")
    queries: Literal["all", "originals_only"] = Field(
        "all", description="development originals with their variations, or originals alone"
    )


class Merge(Section):
    """How the specialists become one model."""

    model_config = ConfigDict(extra="allow", frozen=True)
    method: str = Field("dare_ties", description="the method; further keys are its options")
    outside_layers: Literal["mean", "base"] = Field(
        "mean", description="weight of embeddings, final norm and head: mean of the layers, or 0"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the method as given."""
        return dict(self.model_extra or {})


class Generate(Section):
    """Greedy decoding of every test wording by every model."""

    model_config = ConfigDict(extra="allow", frozen=True)
    backend: str = Field("transformers", description="the backend; further keys are its options")
    max_new_tokens: int = Field(128, ge=1, description="at most so many tokens an answer")

    @property
    def options(self) -> dict[str, Any]:
        """Options of the backend as given."""
        return dict(self.model_extra or {})


class Evaluate(Section):
    """Accuracy and consistency with intervals."""

    T: float = Field(0.7, ge=0, lt=1, description="RS counts pairs with ROUGE-L F1 above this")
    resamples: int = Field(2000, ge=100, description="bootstrap resamples")


class Report(Section):
    """The page."""

    title: str | None = Field(None, description="null: the name of the run")


class Config(Section):
    """A whole run."""

    base: str = Field(min_length=1, description="model folder, id on the hub, or package:NAME")
    encoder: str = Field(
        "package:all-minilm-l6-v2", min_length=1, description="sentence encoder, named like base"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of splits, variations, training and merge")
    prompt: Prompt = Field(Prompt(), description="how a question is put to a model")
    data: Data = Field(description="questions, passages, frozen variations")
    vary: Vary = Field(Vary(), description="stage 1: other wordings of each question")
    retrieve: Retrieve = Field(Retrieve(), description="stage 2: passages for each wording")
    train: Train = Field(Train(), description="stage 3: specialists")
    weigh: Weigh = Field(Weigh(), description="stage 4: layer weights")
    merge: Merge = Field(Merge(), description="stage 5: one model from the specialists")
    generate: Generate = Field(Generate(), description="stage 6: answers of every model")
    evaluate: Evaluate = Field(Evaluate(), description="stage 7: the table")
    report: Report = Field(Report(), description="stage 8: the page")


S = TypeVar("S", ComponentSection, Retrieve, Weigh, Merge, Generate)


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
    if not isinstance(tree, dict):
        raise InputError(f"{path}: a mapping of sections is wanted, as `accord init` writes it")
    return tree


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
        return path if path.is_absolute() else home / path

    data = config.data.model_copy(
        update={
            name: tuple(absolute(p) for p in getattr(config.data, name))
            for name in ("qa", "passages", "variations")
        }
    )
    prompt = config.prompt
    if prompt.template is not None:
        prompt = prompt.model_copy(update={"template": absolute(prompt.template)})
    return config.model_copy(
        update={
            "data": data,
            "prompt": prompt,
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
    path = Path(name).expanduser()
    if path.is_absolute() or name.startswith(("./", "../", "~")) or (home / path).exists():
        return str(home / path)
    return name

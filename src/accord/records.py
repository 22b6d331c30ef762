"""The records that the stages hand to one another, and their files.

A record is frozen and holds no tensors. Its file is JSONL, one JSON object a line, UTF-8, with the
field names of the class; fields we do not know are kept and written back. Parquet and data sets of
the hub are read too (`files`).
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from accord.errors import InputError
from accord.files.chats import AsIs, Role, as_question
from accord.files.rows import Row, rows
from accord.files.said import is_unicode, short, unreadable

Split = Literal["train", "dev", "test"]
Id = Annotated[str, Field(min_length=1)]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class Record(BaseModel):
    """Base of all records: immutable, unknown fields kept, numeric ids read as strings."""

    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)

    @classmethod
    def fields_of(cls, row: dict[str, Any]) -> dict[str, Any]:
        """The fields that a row of a file gives; raises InputError naming a field."""
        return row


class Turn(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Question(Record):
    """One question of the data set, with its reference answer where there is one.

    `turns` come before it, and it is put `as_is` where no passages go with it: it was a row of
    `messages` or of `prompt` and `completion` (`files.chats`).
    """

    id: Id
    query: Text
    answer: str | None = None
    context_ids: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    split: Split | None = None
    turns: tuple[Turn, ...] = ()
    as_is: AsIs | None = None

    @classmethod
    def fields_of(cls, row: dict[str, Any]) -> dict[str, Any]:
        """The fields of a row: a chat becomes a question."""
        return as_question(row)


class Passage(Record):
    """One passage of the collection that the retriever searches."""

    id: Id
    text: Text
    title: str | None = None


class Variation(Record):
    """Another wording of a question; `type` names the kind of rewording."""

    id: Id
    original_id: Id
    type: Id
    query: Text


class Skipped(Record):
    """A variation that was not made, and why. Nothing is ever padded with the original."""

    original_id: str
    type: str
    reason: str


class Ranked(Record):
    """A retrieved passage and its score under the retriever."""

    id: Id
    score: float


class Grounded(Record):
    """The passages retrieved for one wording, best first."""

    id: Id
    original_id: Id
    passages: tuple[Ranked, ...] = ()


class Model(Record):
    """A model of the run: its row in the table, its role, its folder."""

    name: Id
    role: Literal["base", "sft", "specialist", "all", "control", "merged"]
    path: str


class LayerWeights(Record):
    """Merge weights of K models in L layers (paper, section 3.3, equations 2-4)."""

    models: tuple[str, ...]
    layers: int
    weights: tuple[tuple[float, ...], ...]  # [K][L]
    distances: tuple[tuple[float, ...], ...] = ()  # [K][L]
    outside_layers: tuple[float, ...] = ()  # [K]: embeddings, final norm, head


class Answer(Record):
    """What one model said to one wording. `original_id` and `type` are null for originals."""

    model: Id
    id: Id
    original_id: str | None = None
    type: str | None = None
    query: str
    answer: str
    passages: tuple[str, ...] = ()
    contexts: Literal["own", "original", "gold"] = "own"
    repeat: int = 0

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Only a repeated key is a duplicate."""
        return (self.model, self.id, self.contexts, self.repeat)


class Labelled(Record):
    """Two answers to one question that people judged: do they say the same?

    `group` names what is not independent, such as the question; without it each pair stands alone.
    `query` is the question, where a score masks its words.
    """

    a: str
    b: str
    equivalent: StrictBool
    group: str | None = None
    query: str | None = None


class Wording(Record):
    """A question or one of its variations: anything that is asked. `type` is null for originals.

    `turns` and `as_is` are its question's.
    """

    id: Id
    original_id: Id
    type: str | None
    query: Text
    split: Split
    part: Literal["fit", "select"] | None = None  # the two halves of dev
    answer: str | None = None
    turns: tuple[Turn, ...] = ()
    as_is: AsIs | None = None


R = TypeVar("R", bound=Record)


def read_records(path: Path, kind: type[R]) -> list[R]:
    """Read a file of `kind`: JSONL, Parquet, or an address of the hub.

    Raises InputError naming file, line or row, and field for anything that is not a record of
    `kind`.
    """
    return [_record(row, kind) for row in rows(path)]


def _record(row: Row, kind: type[R]) -> R:
    try:
        return kind.model_validate(kind.fields_of(row.value))
    except ValidationError as error:
        raise InputError(f"{row.place}: {explain(error)}") from None
    except InputError as error:
        raise InputError(f"{row.place}: {error}") from None


def explain(error: ValidationError) -> str:
    """The first problem of a validation, as `field: what was found; what would be right`."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"field `{field}` is missing"
    if first["type"] in {"string_too_short", "string_pattern_mismatch"}:
        return f"field `{field}` is empty"
    return f"field `{field}`: found {short(first['input'])}; {_lower(first['msg'])}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def require_unique(records: Sequence[Any], where: str) -> None:
    """Raise InputError if two of `records` share an `id`."""
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise InputError(f"{where}: id `{record.id}` occurs twice; ids must be unique")
        seen.add(record.id)


def to_json(record: Record) -> str:
    """One line of JSONL, fields in the order of the class, unset optional ones left out."""
    return json.dumps(record.model_dump(mode="json", exclude_unset=True), ensure_ascii=False)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write JSONL; the file appears complete or not at all."""
    write_text(path, "".join(to_json(record) + "\n" for record in records))


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented; the file appears complete or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    write_text(path, (text if is_unicode(text) else json.dumps(value, indent=1)) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file by way of a temporary neighbour and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_weights(path: Path) -> LayerWeights:
    """layer_weights.json; raises InputError if it is not one."""
    try:
        return LayerWeights.model_validate(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise unreadable(str(path), error, "layer_weights.json") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: not valid JSON ({error.msg})") from None
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON") from None

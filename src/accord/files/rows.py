"""The rows of a file, each with its place: the same whether it is JSONL, Parquet, or on the hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from accord.errors import InputError
from accord.files.hub import fetch, is_hub
from accord.files.parquet import table
from accord.files.said import short, unreadable

KINDS = (".jsonl", ".parquet")


class Row(NamedTuple):
    """What a file holds at one place; `place` is for errors."""

    place: str
    value: dict[str, Any]


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file in order: Parquet where the name ends in .parquet, else JSONL.

    An address of the hub (`hub`) may name several files, whose rows follow one another. Raises
    InputError naming file and line or row for what is neither.
    """
    if is_hub(path):
        for name, file in fetch(path):
            yield from _rows(file, name)
    else:
        yield from _rows(path, str(path))


def holds_rows(path: Path) -> bool:
    """Whether the name says that the file is one of rows."""
    return is_hub(path) or path.suffix.lower() in KINDS


def _rows(path: Path, name: str) -> Iterator[Row]:
    if path.suffix.lower() == ".parquet":
        for number, value in enumerate(table(path, name), start=1):
            yield Row(f"{name} row {number}", value)
        return
    for number, line in _lines(path, name):
        place = f"{name} line {number}"
        yield Row(place, _object(line, place))


def _lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise unreadable(name, error, "a JSONL file") from None
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name} line {number}: not UTF-8 at byte {error.start}; save the file as UTF-8"
            ) from None
        if text:
            yield number, text


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{place}: not valid JSON ({error.msg} at column {error.colno}); "
            "one object a line is wanted"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"{place}: a JSON object is wanted, found {short(value)}")
    return value

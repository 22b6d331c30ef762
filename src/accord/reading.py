"""The records of several files as one list, in which an id occurs once."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from accord.errors import InputError
from accord.files.chats import made_id
from accord.files.hub import shown
from accord.files.said import short
from accord.records import Grounded, Passage, Question, Variation, read_records

Identified = Question | Passage | Variation | Grounded
K = TypeVar("K", Question, Passage, Variation, Grounded)


def read_questions(paths: Sequence[Path]) -> tuple[list[Question], list[str]]:
    """The questions of all files, and notes on them.

    A chat without an `id` that is there already, to the letter, is left out: such data has repeats.
    Raises InputError for an empty file, and an id that occurs twice otherwise.
    """
    left: list[Question] = []
    questions = read_unique(paths, Question, left)
    if not left:
        return questions, []
    count = len(left)
    text = f"{count} rows are exact repeats of others (first: {short(left[0].query)})"
    return questions, [f"{', '.join(map(shown, paths))}: {text}; each is taken once"]


def read_unique(paths: Sequence[Path], kind: type[K], repeats: list[K] | None = None) -> list[K]:
    """The records of all files; `repeats` gets those that may be and are left out."""
    records: dict[str, K] = {}
    places: dict[str, Path] = {}
    for path in paths:
        for record in read_records(path, kind):
            if record.id not in records:
                records[record.id], places[record.id] = record, path
            elif repeats is not None and _is_made(record) and record == records[record.id]:
                repeats.append(record)
            else:
                raise InputError(f"{shown(path)}: {_twice(record, places[record.id], path)}")
        if not records:
            raise InputError(f"{shown(path)}: is empty; at least one line is wanted")
    return list(records.values())


def _is_made(record: Identified) -> bool:
    """Whether the id of a record was made from what it asks."""
    if not isinstance(record, Question) or record.as_is is None:
        return False
    return record.id == made_id(record.query, [(t.role, t.content) for t in record.turns])


def _twice(record: Identified, first: Path, here: Path) -> str:
    also = "" if first == here else f" (first in {shown(first)})"
    if isinstance(record, Question) and _is_made(record):
        return (
            f"two rows without `id` ask the same{also}, {short(record.query)}, and differ in "
            "answer or another field; keep one, or give each an `id` and both one `split`"
        )
    return f"id `{record.id}` occurs twice{also}; ids must be unique"

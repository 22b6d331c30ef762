"""Variations as a table that a person marks, and the marked table as frozen variations.

The suffix says what is written: .csv and .tsv (UTF-8 with a byte-order mark, so that spreadsheet
programs read the accents) or .md. Wordings that were turned down are rows too, so that a person
may take one after all; a row without a wording is there for one to be written in.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from accord.errors import InputError
from accord.records import Question, Skipped, Variation, explain, write_text
from accord.vary.cells import Row, read_rows, render, showable
from accord.vary.guards import words

COLUMNS = (
    "mark", "original_id", "type", "original", "variation", "note", "id", "made", "provenance",
)  # fmt: skip
WANTED = ("mark", "original_id", "type", "variation", "id", "made")
_YES = words("y yes x 1 ok true \u2713 \u2714")
_NO = words("n no 0 false \u2717 \u2718")
_OWN = frozenset(("id", "original_id", "type", "query"))
_MADE = ("operator", "before", "after", "span", "seed")  # of the wording that was edited away


def write_review(
    variations: Sequence[Variation],
    skipped: Sequence[Skipped],
    questions: Sequence[Question],
    path: Path,
) -> None:
    """Write the table: for each question in order its variations, then what was skipped and why.

    A skipped entry may have the wording that was turned down in a field `query`. Raises InputError
    for an unknown suffix, and for an entry of which there is no question.
    """
    places = {question.id: place for place, question in enumerate(questions)}
    entries: list[tuple[Variation | Skipped, dict[str, str]]] = [
        *((v, _made_row(v)) for v in variations),
        *((s, _skipped_row(s)) for s in skipped),
    ]
    for entry, _ in entries:
        if entry.original_id not in places:
            raise InputError(f"{path}: no question `{entry.original_id}`, of which there is a row")
    entries.sort(key=lambda pair: places[pair[0].original_id])
    rows = [
        {**row, "original": questions[places[entry.original_id]].query} for entry, row in entries
    ]
    table = [COLUMNS, *([row.get(column, "") for column in COLUMNS] for row in rows)]
    write_text(path, render(table, path))


def read_review(
    path: Path,
    questions: Sequence[Question] | None = None,
    *,
    undecided: Literal["keep", "drop"] = "drop",
) -> list[Variation]:
    """The variations of a table that a person takes, in its order.

    Marks are y, yes, x, 1 or ok, and n, no or 0, in any case. A blank mark is undecided; with
    `keep` that takes what was made, but nothing that was turned down. A wording that was edited or
    written in has `written_by: human`; the others keep their provenance. Without an id of its own a
    row gets one.

    Raises InputError naming the line for an unknown mark, an id that occurs twice, a taken row
    without a wording and, where `questions` are given, an unknown original_id; and for a file
    without the columns of `WANTED`.
    """
    known = None if questions is None else {question.id for question in questions}
    taken: dict[str, Variation] = {}
    for row in read_rows(path, WANTED):
        if known is not None and row["original_id"] not in known:
            raise _bad(path, row, f"no question `{row['original_id']}`; restore the original_id")
        if not _is_taken(path, row, undecided):
            continue
        variation = _variation(path, row, len(taken))
        if variation.id in taken:
            raise _bad(path, row, f"id `{variation.id}` occurs twice; leave it blank in a new row")
        taken[variation.id] = variation
    return list(taken.values())


def _made_row(variation: Variation) -> dict[str, str]:
    extra = {k: v for k, v in variation.model_dump(mode="json").items() if k not in _OWN}
    return {
        "original_id": variation.original_id,
        "type": variation.type,
        "variation": variation.query,
        "id": variation.id,
        "made": _digest(variation.query),
        "provenance": json.dumps(extra, ensure_ascii=False) if extra else "",
    }


def _skipped_row(skipped: Skipped) -> dict[str, str]:
    query = (skipped.model_extra or {}).get("query")
    text = query if isinstance(query, str) else ""
    return {
        "original_id": skipped.original_id,
        "type": skipped.type,
        "variation": text,
        "note": skipped.reason,
        "made": _digest(text) if text else "",
    }


def _is_taken(path: Path, row: Row, undecided: str) -> bool:
    mark = row["mark"].strip().casefold()
    if not mark:
        return undecided == "keep" and bool(row["id"])
    if mark not in _YES | _NO:
        raise _bad(path, row, f"mark `{mark}`; y, n or nothing is wanted")
    return mark in _YES


def _variation(path: Path, row: Row, number: int) -> Variation:
    text = row["variation"]
    if not text.strip():
        raise _bad(path, row, "is marked but has no wording; write one or unmark it")
    extra = _provenance(path, row)
    if row["made"] != _digest(text):
        extra = {k: v for k, v in extra.items() if k not in _MADE} | {"written_by": "human"}
    own = {
        "id": row["id"] or f"{row['original_id']}~{row['type']}~review{number}",
        "original_id": row["original_id"],
        "type": row["type"],
        "query": text,
    }
    try:
        return Variation.model_validate({**own, **extra})
    except ValidationError as error:
        raise _bad(path, row, explain(error)) from None


def _provenance(path: Path, row: Row) -> Mapping[str, Any]:
    text = row.get("provenance", "")
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or _OWN & value.keys():
        raise _bad(path, row, "column `provenance` was changed; restore or empty the cell")
    return value


def _bad(path: Path, row: Row, what: str) -> InputError:
    return InputError(f"{path} line {row.line}: {what}")


def _digest(text: str) -> str:
    """By which an edit is seen; spreadsheet programs may change white space on their own."""
    plain = " ".join(showable(text).split())
    return hashlib.sha256(plain.encode("utf-8")).hexdigest()[:12]

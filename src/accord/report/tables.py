"""The table of results as it is printed, with the rules that keep it honest.

A number is set in bold only if its interval excludes the numbers of every other row. That is no
paired test, and most runs have no such number.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accord.report.svg import interval, number

ENOUGH = 100  # test questions below which a table is a check of the pipeline only

# Column -> (heading, what it measures)
METRICS = {
    "rouge_l": (
        "ROUGE-L",
        "Accuracy: overlap with the reference answer, as the F1 of the longest common "
        "subsequence of words. Original questions only.",
    ),
    "bleu": (
        "BLEU",
        "Accuracy: overlap with the reference answers in runs of one to four words, over the "
        "whole test set, as a fraction. Original questions only.",
    ),
    "em": (
        "EM",
        "Consistency: share of pairs (original, rewording) whose two answers are the same string.",
    ),
    "rs": (
        "RS",
        "Consistency: share of pairs whose two answers overlap with a ROUGE-L F1 above T. "
        "It says that answers are alike, not that they are right.",
    ),
    "bs": (
        "BS",
        "Consistency: mean similarity of the two answers of a pair to a sentence encoder. "
        "No claim should rest on it alone.",
    ),
    "rs_area": ("RS area", "Consistency: area under RS as its threshold T goes from 0 to 1."),
}
_COUNTS = ("n", "pairs")
_SIZES = {
    "n": ("questions", "Test questions behind the accuracy of a row."),
    "pairs": ("pairs", "Pairs (original, rewording) behind the consistency of a row."),
}


class Cell(NamedTuple):
    """A number as printed, with its interval below."""

    text: str
    ends: str
    best: bool


def rows_of(table: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The rows of table.json that are rows."""
    rows = (table or {}).get("rows") or []
    return [row for row in rows if isinstance(row, Mapping)]


def table_view(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Headings, rows of cells, and the sentence of each column."""
    columns = _columns(rows)
    best = {c: _best(rows, c) for c in columns if c not in _COUNTS}
    return {
        "headings": [_heading(c) for c in columns],
        "rows": [
            {
                "name": str(row.get("name")),
                "cells": [_cell(row, c, best.get(c) is row) for c in columns],
            }
            for row in rows
        ],
        "meanings": [(_heading(c), m) for c in columns if (m := _meaning(c))],
        "any_best": any(row is not None for row in best.values()),
        "any_interval": any(interval(row, c) for row in rows for c in columns),
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paper's five always; further numbers of the rows as they come; the counts last."""
    given = [key for row in rows for key, value in row.items() if number(value) is not None]
    fixed = [*list(METRICS)[:5], *(["rs_area"] if "rs_area" in given else [])]
    extra = [key for key in dict.fromkeys(given) if key not in {*fixed, *_COUNTS, "name"}]
    return [*fixed, *extra, *_COUNTS]


def _heading(column: str) -> str:
    known = {**METRICS, **_SIZES}
    return known[column][0] if column in known else str(column).replace("_", " ")


def _meaning(column: str) -> str:
    known = {**METRICS, **_SIZES}
    return known[column][1] if column in known else ""


def _best(rows: Sequence[Mapping[str, Any]], column: str) -> Mapping[str, Any] | None:
    """The row whose interval lies above the numbers of all others, if there is one."""
    scored = [(value, row) for row in rows if (value := number(row.get(column))) is not None]
    if len(scored) < 2:
        return None
    _, row = max(scored, key=lambda pair: pair[0])
    ends = interval(row, column)
    others = [value for value, other in scored if other is not row]
    return row if ends and ends[0] > max(others) else None


def _cell(row: Mapping[str, Any], column: str, best: bool) -> Cell:
    ends = interval(row, column)
    return Cell(fixed(row.get(column)), f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "", best)


def fixed(value: object) -> str:
    """A whole number as it is, a fraction with three decimals, nothing as a dash."""
    found = number(value)
    if found is None:
        return "-"
    return f"{int(found):,}" if isinstance(value, int) else f"{found:.3f}"


def question_count(table: Mapping[str, Any] | None, counts: Mapping[str, Any] | None) -> int | None:
    """How many test questions stand behind the table: the least of its rows."""
    known = [int(n) for row in rows_of(table) if (n := number(row.get("n"))) is not None]
    if known:
        return min(known)
    questions = (counts or {}).get("questions")
    n = number(questions.get("test")) if isinstance(questions, Mapping) else None
    return None if n is None else int(n)


def detectable(table: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """(metric, smallest difference that this table could tell from noise)."""
    found = (table or {}).get("detectable")
    if not isinstance(found, Mapping):
        return []
    known = [(metric, number(value)) for metric, value in found.items()]
    return [(_heading(metric), fixed(value)) for metric, value in known if value is not None]


def attribution(scores: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What share of the inconsistency comes from where, as far as the scores say it."""
    models = (scores or {}).get("models")
    found: dict[str, Mapping[str, Any]] = {}
    for name, model in (models if isinstance(models, Mapping) else {}).items():
        parts = model.get("attribution") if isinstance(model, Mapping) else None
        if isinstance(parts, Mapping) and any(number(v) is not None for v in parts.values()):
            found[str(name)] = parts
    if not found:
        return None
    columns = [k for p in found.values() for k, v in p.items() if number(v) is not None]
    columns = list(dict.fromkeys(columns))
    return {
        "headings": [_heading(c) for c in columns],
        "rows": [(name, [fixed(p.get(c)) for c in columns]) for name, p in found.items()],
    }

"""The table of results as it is printed, with the rules that keep it honest.

Where rows were compared pair by pair, no number is bold here: the differences say what is claimed.
Else a number is bold only if its interval excludes the numbers of every other row, which is no
paired test, and most runs have no such number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from accord.report.grid import Cell, Grid, ends_of, fixed, listing, mapping, plural, span
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
    "containment": (
        "containment",
        "Consistency: of the shorter answer's content words that the question does not hold, the "
        "share found in the other answer; 0 where numbers, negation, yes or no, or a refusal "
        "differ.",
    ),
    "token_f1": (
        "token F1",
        "Accuracy: overlap with the reference answer in words, in any order.",
    ),
    "bertscore": (
        "BERTScore",
        "Consistency: similarity of the two answers of a pair, word by word, to an encoder.",
    ),
    "judge": (
        "judge",
        "Consistency: share of pairs that a model asked in both orders calls equivalent. Believe "
        "it as far as it agrees with itself and with people.",
    ),
}
ACCURACY = ("rouge_l", "bleu", "token_f1")
_COUNTS = ("n", "pairs")
# Counts of what went wrong: they stand in a table of their own.
_OTHER_COUNTS = {
    "questions",
    "without_reference",
    "empty_answers",
    "without_tokens",
    "missing_pairs",
}
_SIZES = {
    "n": ("questions", "Test questions behind the accuracy of a row."),
    "pairs": ("pairs", "Pairs (original, rewording) behind the consistency of a row."),
}


def rows_of(table: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The rows of table.json that are rows."""
    return [row for row in listing(mapping(table).get("rows")) if isinstance(row, Mapping)]


def table_view(rows: Sequence[Mapping[str, Any]], compared: bool = False) -> dict[str, Any]:
    """The table, the sentence of each column, and what its small print holds.

    `compared`: the differences between rows are tested elsewhere on the page.
    """
    columns = metrics_of(rows)
    best = {} if compared else {c: _best(rows, c) for c in columns}
    shown = [*columns, *_COUNTS]
    floors = [n for row in rows if (n := number(_floors(row).get("n"))) is not None]
    return {
        "grid": Grid(
            [(heading(c), "") for c in shown],
            [(_name(row), [_cell(row, c, best.get(c) is row) for c in shown]) for row in rows],
        ),
        "meanings": [(heading(c), m) for c in shown if (m := _meaning(c))],
        "any_best": any(row is not None for row in best.values()),
        "any_interval": any(interval(row, c) for row in rows for c in columns),
        "floor": plural(int(min(floors)), "question") if floors else "",
    }


def metrics_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paper's five always; further numbers of the rows as they come."""
    given = [key for row in rows for key, value in row.items() if number(value) is not None]
    fixed_ = [*list(METRICS)[:5], *(["rs_area"] if "rs_area" in given else [])]
    left = {*fixed_, *_COUNTS, *_OTHER_COUNTS, "name"}
    return [*fixed_, *(key for key in dict.fromkeys(given) if key not in left)]


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("name"))


def heading(column: str) -> str:
    """The name of a number as people write it."""
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
    floor = None if column in _COUNTS else number(_floors(row).get(column))
    small = [ends_of(row, column), "" if floor is None else f"floor {floor:.3f}"]
    return Cell(fixed(row.get(column)), tuple(filter(None, small)), best)


def _floors(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Agreement of the answers to the very same query, where it was asked more than once."""
    return mapping(row.get("noise_floor"))


def question_count(table: Mapping[str, Any] | None, counts: Mapping[str, Any] | None) -> int | None:
    """How many test questions stand behind the table: the least of its rows."""
    known = [int(n) for row in rows_of(table) if (n := number(row.get("n"))) is not None]
    if known:
        return min(known)
    questions = (counts or {}).get("questions")
    n = number(questions.get("test")) if isinstance(questions, Mapping) else None
    return None if n is None else int(n)


def pairs_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many pairs stand behind the rows, in words; "" where they do not say."""
    return span([int(n) for row in rows if (n := number(row.get("pairs"))) is not None], "pair")


def detectable(table: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """(metric, smallest difference that every comparison of this table could tell from noise)."""
    found = (table or {}).get("detectable")
    if not isinstance(found, Mapping):
        return []
    known = [(metric, number(value)) for metric, value in found.items()]
    return [(heading(metric), fixed(value)) for metric, value in known if value is not None]

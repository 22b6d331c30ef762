"""What must be known before a table is believed: warnings, what was left out, the guard."""

from collections.abc import Mapping, Sequence
from typing import Any

from accord.report.disagreements import cut
from accord.report.grid import Cell, Grid, fixed, listing, mapping, plural
from accord.report.svg import number
from accord.report.tables import heading

_LOST = {
    "without_reference": "questions without a reference",
    "empty_answers": "blank answers",
    "without_tokens": "answers without a word",
    "missing_pairs": "rewordings without their original",
}
_LEFT_OUT = {
    "questions": "questions not shared by all rows",
    "pairs": "pairs not shared by all rows",
}
_REASONS = {
    "refusal": "one refuses to answer",
    "yes_no": "yes against no",
    "numbers": "different numbers",
    "negation": "one denies it",
}


def caveats_view(
    table: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Warnings, sentences on answers set aside, and tables of what is missing or refused.

    `complete`: the rows say what they lack, and it is nothing.
    """
    given = mapping(table)
    lost = _counted(rows, [_lost(row) for row in rows])
    return {
        "warnings": [cut(w) for w in listing(given.get("warnings"))],
        "aside": _aside(mapping(mapping(given.get("signatures")).get("set_aside"))),
        "lost": lost,
        "complete": lost is None and any("unscored" in row for row in rows),
        "guard": _guard(rows),
    }


def _lost(row: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a row lacks by name."""
    found = {title: row.get(key) for key, title in _LOST.items()}
    found |= {title: mapping(row.get("left_out")).get(k) for k, title in _LEFT_OUT.items()}
    scores = mapping(row.get("unscored"))
    return found | {f"{heading(str(metric))} unscored": n for metric, n in scores.items()}


def _guard(rows: Sequence[Mapping[str, Any]]) -> Grid | None:
    """Pairs that the guard refuses to call equivalent by reason, over all seeds of a row."""
    if not any(isinstance(row.get("guard"), Mapping) for row in rows):
        return None
    every = []
    for row in rows:
        reasons = {k: n for k, v in mapping(row.get("guard")).items() if (n := number(v))}
        pairs = number(row.get("pairs"))
        seeds = max(1, len(mapping(row.get("seeds"))))
        all_ = {"refused": int(sum(reasons.values()))}
        all_ |= {} if pairs is None else {"of pairs": int(pairs) * seeds}
        every.append({_REASONS.get(k, str(k)): int(n) for k, n in reasons.items()} | all_)
    last = ("refused", "of pairs")
    titles = [t for t in dict.fromkeys(t for own in every for t in own) if t not in last]
    return _grid(rows, every, [*titles, *last])


def _counted(rows: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]]) -> Grid | None:
    """A table of counts without the columns that are 0 in every row; None where none is left."""
    titles = dict.fromkeys(title for own in every for title, n in own.items() if number(n))
    return _grid(rows, every, list(titles)) if titles else None


def _grid(
    rows: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]], titles: Sequence[str]
) -> Grid:
    body = [
        (str(row.get("name")), [Cell(fixed(own.get(title, 0))) for title in titles])
        for row, own in zip(rows, every, strict=True)
    ]
    return Grid([(title, "") for title in titles], body)


def _aside(found: Mapping[str, Any]) -> list[str]:
    """Answers that no score rests on, in sentences."""
    answers, repeats = number(found.get("answers")), number(found.get("repeats"))
    said = []
    if answers:
        said.append(f"{plural(int(answers), 'answer')} with other contexts not scored.")
    if repeats:
        said.append(f"{plural(int(repeats), 'repeated answer')}: for the noise floor only.")
    if models := listing(found.get("models")):
        said.append(f"No scored answers of {', '.join(cut(m, 80) for m in models)}.")
    return said

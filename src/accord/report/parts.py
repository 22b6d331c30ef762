"""Consistency by part: kinds of rewording, whole groups, lengths of answers, passages.

All numbers are RS. A part that no row has is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accord.report.grid import Cell, Grid, ends_of, fixed, mapping, size_of, sized
from accord.report.svg import number

_Path = tuple[str, ...]
_GROUPS: dict[_Path, str] = {
    ("unseen",): "kinds never trained on",
    ("group",): "all wordings",
    ("worst",): "worst pair",
}
_PASSAGES = {
    "same": "same passages",
    "reordered": "same, reordered",
    "changed": "other passages",
    "unknown": "not recorded",
}


def parts_view(rows: Sequence[Mapping[str, Any]], trained: object = None) -> dict[str, Any]:
    """The three tables of parts, None each where no row has one.

    `trained`: the kinds of rewording that were trained on, None where that is not known.
    """
    kinds: dict[_Path, str] = {
        ("by_type", kind): _kind(kind, trained) for kind in _keys(rows, "by_type")
    }
    lengths = sorted(_keys(rows, "by_length"), key=_least)
    passages = {k: _PASSAGES.get(k, k) for k in _keys(rows, "by_retrieval")}
    known = passages if set(passages) != {"unknown"} else {}
    ordered = sorted(known, key=lambda k: list(_PASSAGES).index(k) if k in _PASSAGES else 99)
    return {
        "by_kind": _grid(rows, {**kinds, **_GROUPS}),
        "by_length": _grid(rows, {("by_length", k): _words(k) for k in lengths}),
        "by_passages": _grid(rows, {("by_retrieval", k): known[k] for k in ordered}),
    }


def _keys(rows: Iterable[Mapping[str, Any]], part: str) -> list[str]:
    return list(dict.fromkeys(str(key) for row in rows for key in mapping(row.get(part))))


def _kind(kind: str, trained: object) -> str:
    """A kind's name, with a mark where it is known that no model was trained on it."""
    unseen = isinstance(trained, list) and kind not in trained
    return kind.replace("_", " ") + (" (never trained on)" if unseen else "")


def _least(name: str) -> int:
    first = name.split("-")[0]
    return int(first) if first.isdecimal() else 0


def _words(name: str) -> str:
    least, _, most = name.partition("-")
    return f"{least} to {most} words" if most else f"{least} words and more"


def _grid(rows: Sequence[Mapping[str, Any]], titles: Mapping[_Path, str]) -> Grid | None:
    """RS of each part; None where no row has any of them."""
    columns = []
    for path, title in titles.items():
        found = [_part(row, path) for row in rows]
        if any(number(part.get("rs")) is not None for part in found):
            columns.append((title, [(_cell(part), size_of(part)) for part in found]))
    names = [str(row.get("name")) for row in rows]
    return sized(columns, names) if columns else None


def _part(row: Mapping[str, Any], path: _Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = row
    for step in path:
        found = mapping(found.get(step))
    return found


def _cell(part: Mapping[str, Any]) -> Cell:
    return Cell(fixed(part.get("rs")), tuple(filter(None, [ends_of(part, "rs")])))

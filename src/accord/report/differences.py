"""What differs beyond chance: the row in focus against every other, on the same questions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accord.report.grid import Cell, Grid, fixed, mapping, plural, size_of, sized, span
from accord.report.svg import interval, number
from accord.report.tables import ACCURACY, METRICS, heading, metrics_of

_PARTS = {"unseen": "kinds never trained on", "group": "all wordings", "worst": "worst pair"}
_UNSEEN = ("unseen", "rs")  # generalisation can be claimed from it alone
_AREA = "rs_area"  # says what RS says; it stands with all the others
_DIRECTION = {"better": "higher", "worse": "lower"}
_Path = tuple[str, ...]
_Entries = dict[_Path, Mapping[str, Any]]


def differences_view(table: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The differences of the row in focus from the others; None where nothing was compared.

    In `grid` one row for each other row; `every` has all differences with their p-values.
    """
    given = mapping(mapping(table).get("comparisons"))
    others = {str(k): own for k, v in mapping(given.get("against")).items() if (own := mapping(v))}
    entries = {name: dict(_entries(own)) for name, own in others.items()}
    if not any(entries.values()):
        return None
    focus, paths = str(given.get("focus")), _main(entries)
    return {
        "focus": focus,
        "grid": _grid(entries, paths),
        "sentences": [(name, _claims(found, paths)) for name, found in entries.items()],
        "tests": span(_numbers(others, "tests"), "test"),
        "questions": span(_numbers(others, "questions"), "question"),
        "every": [(name, _every(found, focus, name)) for name, found in entries.items()],
    }


def focus_of(table: Mapping[str, Any] | None) -> str | None:
    """The row that the others are compared with, if any were."""
    focus = mapping(mapping(table).get("comparisons")).get("focus")
    return None if focus is None else str(focus)


def _numbers(others: Mapping[str, Mapping[str, Any]], key: str) -> list[int]:
    return [int(n) for own in others.values() if (n := number(own.get(key))) is not None]


def _entries(own: Mapping[str, Any], path: _Path = ()) -> Iterator[tuple[_Path, Mapping[str, Any]]]:
    """(path, difference) of everything compared."""
    for name, value in own.items():
        if isinstance(value, Mapping):
            here = (*path, str(name))
            if number(value.get("difference")) is not None:
                yield here, value
            else:
                yield from _entries(value, here)


def _main(entries: Mapping[str, _Entries]) -> list[_Path]:
    """What is shown of every comparison: all pairs, and RS over the kinds never trained on."""
    found = dict.fromkeys(path for own in entries.values() for path in own)
    names = [path[0] for path in found if len(path) == 1 and path[0] != _AREA]
    ordered = sorted(names, key=_rank)
    return [*((name,) for name in ordered), *([_UNSEEN] if _UNSEEN in found else [])]


def _rank(metric: str) -> int:
    """The place of a metric in the table."""
    return list(METRICS).index(metric) if metric in METRICS else len(METRICS)


def _grid(entries: Mapping[str, _Entries], paths: Sequence[_Path]) -> Grid:
    columns = []
    for path in paths:
        found = [own.get(path) for own in entries.values()]
        columns.append((_title(path), [(_cell(entry), _size(path, entry)) for entry in found]))
    return sized(columns, list(entries))


def _title(path: _Path) -> str:
    """`RS`, or `RS (worst pair)`."""
    steps = [_PARTS.get(s, s.replace("_", " ")) for s in path[:-1] if s != "by_type"]
    return heading(path[-1]) + (f" ({', '.join(steps)})" if steps else "")


def _once(path: _Path) -> bool:
    """Whether each question counts once: for accuracy, and for whole groups of wordings."""
    return path[-1] in ACCURACY or path[0] in {"group", "worst"}


def _size(path: _Path, entry: Mapping[str, Any] | None) -> str:
    return size_of({**(entry or {}), **({"pairs": None} if _once(path) else {})})


def _cell(entry: Mapping[str, Any] | None) -> Cell:
    if entry is None:
        return Cell("-")
    least, claim = number(entry.get("detectable")), _DIRECTION.get(str(entry.get("claim")))
    small = [
        _ends(entry),
        "" if least is None else f"seen from {least:.3f}",
        f"claimed: {claim}" if claim else "",
    ]
    return Cell(_signed(entry.get("difference")), tuple(filter(None, small)), claim is not None)


def _ends(entry: Mapping[str, Any]) -> str:
    ends = interval({"ci": {"difference": entry.get("ci")}}, "difference")
    return f"{_signed(ends[0])} to {_signed(ends[1])}" if ends else ""


def _signed(value: object) -> str:
    """`+0.012`, with a minus sign as wide as the plus; without a sign where it rounds to 0."""
    found = number(value)
    if found is None:
        return "-"
    size = f"{abs(found):.3f}"
    return size if size == "0.000" else ("+" if found > 0 else "\N{MINUS SIGN}") + size


def _claims(found: _Entries, paths: Sequence[_Path]) -> str:
    """What may be claimed against one row, in words."""
    claims: dict[str, list[str]] = {"higher": [], "lower": [], "": []}
    for path in paths:
        if path in found:
            claims[_DIRECTION.get(str(found[path].get("claim")), "")].append(_title(path))
    said = [f"{word} in {_listed(claims[word])}" for word in ("higher", "lower") if claims[word]]
    silent = [f"no claim in {_listed(claims[''])}"] if claims[""] else []
    return "; ".join([*said, *silent]) + "." if said else "nothing can be claimed."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _every(found: _Entries, focus: str, other: str) -> Grid:
    """All differences from one row, with the numbers that they are made of."""
    titles = [focus, other, "difference", "p", "p after Holm", "seen from", "questions", "pairs"]
    parts = list(dict.fromkeys(path[:-1] for path in sorted(found, key=lambda p: len(p) > 1)))
    ordered = sorted(found, key=lambda path: (parts.index(path[:-1]), _rank(path[-1])))
    return Grid(
        [(title, "") for title in titles],
        [(_title(path), _numbers_of(path, found[path])) for path in ordered],
    )


def _numbers_of(path: _Path, entry: Mapping[str, Any]) -> list[Cell]:
    return [
        Cell(fixed(entry.get("a"))),
        Cell(fixed(entry.get("b"))),
        _cell({**entry, "detectable": None}),
        Cell(_chance(entry.get("p"))),
        Cell(_chance(entry.get("p_holm"))),
        Cell(fixed(entry.get("detectable"))),
        Cell(fixed(entry.get("n"))),
        Cell("-" if _once(path) else fixed(entry.get("pairs"))),
    ]


def _chance(p: object) -> str:
    found = number(p)
    return "-" if found is None else "<0.001" if found < 0.001 else f"{found:.3f}"


def seeds_view(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The numbers of each seed alone; None where no row has several."""
    several = [row for row in rows if mapping(row.get("seeds"))]
    if not several:
        return None
    seeds = [
        (f"{row.get('name')}, seed {label}", mapping(own))
        for row in several
        for label, own in mapping(row.get("seeds")).items()
    ]
    columns = metrics_of([own for _, own in seeds])
    return {
        "grid": Grid(
            [(heading(c), "") for c in columns],
            [(name, [Cell(fixed(own.get(c))) for c in columns]) for name, own in seeds],
        ),
        "count": plural(max(len(mapping(row.get("seeds"))) for row in several), "seed"),
        "size": span(_counts(several, "n"), "question")
        + f", {span(_counts(several, 'pairs'), 'pair')}",
    }


def _counts(rows: Sequence[Mapping[str, Any]], key: str) -> list[int]:
    return [int(n) for row in rows if (n := number(row.get(key))) is not None]

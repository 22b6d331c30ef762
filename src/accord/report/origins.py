"""Where the inconsistency comes from: the retriever's and the generator's share, row by row.

RS stands for all metrics in the picture, or the first metric of consistency where RS was not
scored; the table below it has every one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accord.report.grid import Cell, Grid, ends_of, fixed, listing, mapping, plural, size_of, sized
from accord.report.svg import interval, number
from accord.report.tables import heading

_SHARES = {
    "retriever_share": "retriever's share",
    "generator_share": "generator's share",
    "noise_share": "of that noise",
}
_SCORES = {"e2e": "end to end", "gen": "passages held", "gold": "gold passages"}
_RANKINGS = {
    "jaccard": "overlap (Jaccard)",
    "rbo": "rank-biased overlap",
    "same_first": "same first passage",
    "hit_original": "gold found, originals",
    "hit_variation": "gold found, rewordings",
    "hits_kept": "originals' hits kept",
}
_Named = tuple[str, Mapping[str, Any]]


class Origin(NamedTuple):
    """What one bar shows: consistency end to end, with passages held, and when asked again."""

    name: str
    observed: bool
    e2e: float
    gen: float
    floor: float | None
    share: float | None
    ends: tuple[float, float] | None
    label: str


def origins_view(rows: Sequence[Mapping[str, Any]], focus: str | None) -> dict[str, Any]:
    """Bars of all rows and of the kinds of the row in focus, sentences, and the tables.

    `known`: whether any row says where its inconsistency comes from.
    """
    named = [(str(row.get("name")), mapping(row.get("attribution"))) for row in rows]
    metric = _metric([own for _, own in named])
    own = dict(named).get(str(focus), named[0][1] if named else {})
    kinds = [(kind.replace("_", " "), part) for kind, part in _kinds(own)]
    bars = [bar for name, part in named if (bar := _origin(name, part, metric))]
    drawn = {bar.name for bar in bars}
    return {
        "known": bool(bars),
        "metric": heading(metric),
        "rows": bars,
        "kinds": [bar for kind, part in kinds if (bar := _origin(kind, part, metric))],
        "kinds_of": next((name for name, part in named if part is own), ""),
        "sentences": [str(s) for _, part in named if (s := part.get("sentence"))],
        "notes": list(dict.fromkeys(str(part["note"]) for _, part in named if part.get("note"))),
        "observed": any(bar.observed for bar in bars),
        "left": [name for name, _ in named if name not in drawn],
        "shares": _shares(named, metric),
        "metrics": _metrics(own),
    }


def retrieval_view(rows: Sequence[Mapping[str, Any]], focus: str | None) -> dict[str, Any]:
    """C_ret of the row in focus by kind, and of all rows."""
    named = [(str(row.get("name")), mapping(row.get("attribution"))) for row in rows]
    own = dict(named).get(str(focus), named[0][1] if named else {})
    kinds = {kind: mapping(part.get("retriever")) for kind, part in _kinds(own)}
    return {
        "chart": {**mapping(own.get("retriever")), "by_type": kinds},
        "of": next((name for name, part in named if part is own), ""),
        "size": size_of(mapping(own.get("retriever"))),
        "grid": _columns(
            [(name, mapping(part.get("retriever"))) for name, part in named], _RANKINGS
        ),
    }


def _kinds(own: Mapping[str, Any]) -> list[_Named]:
    """The kinds of rewording of a row; how its numbers were made is said once for all."""
    parts = mapping(own.get("by_type")).items()
    return [(str(kind), {**mapping(part), "how": own.get("how")}) for kind, part in parts]


def _metric(found: Sequence[Mapping[str, Any]]) -> str:
    names = [str(name) for own in found for name in mapping(own.get("metrics"))]
    return "rs" if "rs" in names or not names else names[0]


def _of(own: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    return mapping(mapping(own.get("metrics")).get(metric))


def _origin(name: str, own: Mapping[str, Any], metric: str) -> Origin | None:
    found = _of(own, metric)
    e2e, gen, share = (number(found.get(key)) for key in ("e2e", "gen", "retriever_share"))
    if e2e is None or gen is None:
        return None
    observed, ends = own.get("how") == "observed", interval(found, "retriever_share")
    label = _percent(found, "retriever_share", observed)
    if ends is None:
        label = "nothing to explain" if share is None else "too few disagree"
    return Origin(name, observed, e2e, gen, number(found.get("floor")), share, ends, label)


def _percent(found: Mapping[str, Any], key: str, observed: bool = False) -> str:
    """`37 % [25 to 49]`, with a mark where it was observed only.

    A dash where there is no interval: a share of next to nothing may be anything.
    """
    share, ends = number(found.get(key)), interval(found, key)
    if share is None or ends is None:
        return "-"
    shown = f"{'~' if observed else ''}{_whole(share)} %"
    return f"{shown} [{_whole(ends[0])} to {_whole(ends[1])}]"


def _whole(share: float) -> str:
    value = round(100 * share)
    return f"\N{MINUS SIGN}{-value}" if value < 0 else str(value)


def _shares(named: Sequence[_Named], metric: str) -> Grid | None:
    """Scores and shares of every row."""
    found = [(name, _of(own, metric), own.get("how") == "observed") for name, own in named]
    found = [(name, own, seen) for name, own, seen in found if number(own.get("e2e")) is not None]
    if not any(number(own.get("gen")) is not None for _, own, _ in found):
        return None
    columns = [(_SCORES[key], [_cell(own, key) for _, own, _ in found]) for key in ("e2e", "gen")]
    for key, title in _SHARES.items():
        if any(number(own.get(key)) is not None for _, own, _ in found):
            columns.append((title, [_share(own, key, seen) for _, own, seen in found]))
    return sized(columns, [name for name, _, _ in found])


def _cell(own: Mapping[str, Any], key: str) -> tuple[Cell, str]:
    return Cell(fixed(own.get(key)), tuple(filter(None, [ends_of(own, key)]))), size_of(own)


def _share(own: Mapping[str, Any], key: str, observed: bool) -> tuple[Cell, str]:
    observed = observed and key != "noise_share"  # noise is measured, whatever stands in
    text, _, ends = _percent(own, key, observed).partition(" [")
    return Cell(text, (ends.rstrip("]"),) if ends else ()), ""


def _metrics(own: Mapping[str, Any]) -> Grid | None:
    """Every metric of one row, overall and by kind."""
    parts = [("", own), *((kind.replace("_", " "), part) for kind, part in _kinds(own))]
    rows = []
    for kind, part in parts:
        gold = mapping(part.get("gold"))
        for name, found in mapping(part.get("metrics")).items():
            title = heading(str(name)) + (f", {kind}" if kind else "")
            both = {**mapping(found), "gold": mapping(gold.get(name)).get("gold")}
            ends = {**mapping(mapping(found).get("ci"))}
            ends["gold"] = mapping(mapping(gold.get(name)).get("ci")).get("gold")
            rows.append((title, {**both, "ci": ends}))
    known = [row for row in rows if number(row[1].get("gen")) is not None]
    return _columns(known, {**_SCORES, **_SHARES}) if known else None


def _columns(rows: Sequence[_Named], titles: Mapping[str, str]) -> Grid | None:
    """A grid of the numbers that any row has; None where none has one."""
    columns = []
    for key, title in titles.items():
        if any(number(own.get(key)) is not None for _, own in rows):
            cells = [_share(o, key, False) if key in _SHARES else _cell(o, key) for _, o in rows]
            columns.append((title, cells))
    return sized(columns, [name for name, _ in rows]) if columns else None


def left_out(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many pairs of the table nothing is said on here, in words; "" for none."""
    found = [number(mapping(row.get("attribution")).get("left_out")) for row in rows]
    most = max((int(count) for count in found if count is not None), default=0)
    return plural(most, "pair") if most else ""


def kinds_left_out(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Kinds of which no pair kept its passages in some row."""
    found = [
        str(kind)
        for row in rows
        for own in mapping(mapping(row.get("attribution")).get("metrics")).values()
        for kind in listing(mapping(own).get("kinds_left_out"))
    ]
    return sorted(set(found))

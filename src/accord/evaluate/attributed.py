"""Where the inconsistency comes from, as a terminal shows it: a table, and a sentence to take away.

One metric stands for all: RS, or the first of consistency where RS was not scored.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accord.evaluate.compare import TITLES
from accord.evaluate.shown import add, framed, number, scored, table_of

if TYPE_CHECKING:
    from rich.console import Group

_PLAIN = "rs"
_SCORES = ("gen", "e2e")
_MARK = "~"  # observed, not held fixed
_UNKNOWN = "where the inconsistency comes from is not known: the answers name no passages"
_HELD = "C_gen: the passages of the original question held fixed, for the same pairs as C_e2e."
_OBSERVED = (
    f"{_MARK} observed: C_gen is of the pairs that kept their passages, each kind at its share of "
    "all.\n  These are the milder rewordings, so the retriever's share is rather too large."
)


def attributed(content: Mapping[str, Any]) -> list["Group"]:
    """The table of all rows, and of the kinds of rewording of the row in focus; [] for none."""
    rows = [(row["name"], row["attribution"]) for row in content["rows"] if row.get("attribution")]
    metric = _metric([own for _, own in rows])
    if metric is None:
        return []
    focus = focus_of(content)
    name, own = next(((n, a) for n, a in rows if n == focus), rows[0])
    title = f"Where the inconsistency comes from ({TITLES.get(metric, metric)})"
    hows = {found["how"] for _, found in rows}
    caption = [text for how, text in (("fixed", _HELD), ("observed", _OBSERVED)) if how in hows]
    said = own["sentence"]
    tables = [
        _table(title, "model", rows, metric, "\n".join([*caption, *([said] if said else [])]))
    ]
    kinds = [(kind, {**part, "how": own["how"]}) for kind, part in own.get("by_type", {}).items()]
    if len(kinds) > 1:
        tables.append(_table(f"{name}, by kind of rewording", "kind", kinds, metric, ""))
    return tables


def unknown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be said where no answer names a passage."""
    hows = {row["attribution"]["how"] for row in rows if row.get("attribution")}
    return [_UNKNOWN] if hows == {"none"} and any(row["pairs"] for row in rows) else []


def focus_of(content: Mapping[str, Any]) -> str:
    """The row in focus, else the first."""
    against = content["comparisons"]
    return str(against["focus"] if against else content["rows"][0]["name"])


def _metric(found: Sequence[Mapping[str, Any]]) -> str | None:
    """What stands for consistency; None where nothing is known of where it is lost."""
    known = [own for own in found if own["how"] != "none"]
    names = list(dict.fromkeys(name for own in known for name in own["metrics"]))
    if names:
        return _PLAIN if _PLAIN in names else names[0]
    return _PLAIN if any(own["retriever"] for own in known) else None


def _table(
    title: str, first: str, rows: Sequence[tuple[str, Mapping[str, Any]]], metric: str, caption: str
) -> "Group":
    noise = any("noise_share" in own["metrics"].get(metric, {}) for _, own in rows)
    heads = ["C_ret\nJaccard", "C_gen", "C_e2e", "retriever's\nshare", "generator's\nshare"]
    shown = table_of([*heads, *(["of that\nnoise"] if noise else [])], first=first)
    for name, own in rows:
        found, mark = own["metrics"].get(metric, {}), _MARK if own["how"] == "observed" else ""
        cells = [_score(own["retriever"] or {}, "jaccard"), *(_score(found, s) for s in _SCORES)]
        cells += [percent(found, share, mark) for share in ("retriever_share", "generator_share")]
        add(shown, [name, *cells, *([percent(found, "noise_share")] if noise else [])])
    return framed(title, shown, caption)


def _score(found: Mapping[str, Any], name: str) -> str:
    return scored(found.get(name), found.get("ci", {}).get(name))


def percent(found: Mapping[str, Any], share: str, mark: str = "") -> str:
    """A share with its interval, such as `37 % [25-49]` or, as it may be, `-12 % [-30..5]`.

    `-` where there is no interval: a share of next to nothing may be anything.
    """
    value, ends = found.get(share), found["ci"].get(share) if found else None
    if value is None or ends is None:
        return "-"
    low, high = (round(100 * end) for end in ends)
    return f"{mark}{round(100 * value)} % [{low}{'-' if low >= 0 else '..'}{high}]"


def sentence(name: str, own: Mapping[str, Any]) -> str | None:
    """What a reader takes away from one row; None where nothing is known."""
    metric = _metric([own])
    found = own["metrics"].get(metric)
    if metric is None or not found:
        return None
    title = TITLES.get(metric, metric)
    gen, e2e = number(found["gen"], 2), number(found["e2e"], 2)
    if found["retriever_share"] is None:
        return f"{name}: every pair agrees in {title}; there is no inconsistency to explain."
    if own["how"] == "fixed":
        moved = "rises" if found["gen"] > found["e2e"] else "falls"
        moved = "stays" if gen == e2e else moved
        path = f"at {e2e}" if gen == e2e else f"from {e2e} to {gen}"
        held = f"{name}: with the original's passages held fixed {title} {moved} {path}"
    else:
        held = f"{name}: {title} is {gen} where the passages stayed the same, {e2e} over all pairs"
    return f"{held}; {_explained(found, own['how'])}."


def _explained(found: Mapping[str, Any], how: str) -> str:
    share, ends = percent(found, "retriever_share"), found["ci"]["retriever_share"]
    if ends is None:
        return "too few questions disagree to say what share of it is the retriever's"
    if found["retriever_share"] < 0:
        said = f"retrieval explains none of its inconsistency ({share})"
        if how == "fixed" and ends[1] < 0:
            said += ", rewordings agree more with passages of their own"
    else:
        verb = "explains" if how == "fixed" else "seems to explain"
        said = f"retrieval {verb} {share} of its inconsistency"
    noise = percent(found, "noise_share")
    return said if noise == "-" else f"{said}; {noise} of it shows when the same is asked again"

"""The tables a person sees: a row for each model, its parts, and what differs beyond noise."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accord.evaluate.attributed import attributed, unknown
from accord.evaluate.compare import TITLES
from accord.evaluate.shown import add, counted, framed, number, scored, table_of

if TYPE_CHECKING:
    from rich.console import Group

COLUMNS = {"rouge_l": "ROUGE-L", "bleu": "BLEU", "em": "EM", "rs": "RS", "bs": "BS"}
CONSISTENCY = ("em", "rs", "bs")
ABREAST = 5  # columns of scores in one table
FEWEST = 100  # questions; with fewer, a table is evidence of nothing but that the pipeline runs
TOO_FEW = "shows that the pipeline runs; it is no evidence"
PARTS = {
    "group": "all wordings",
    "worst": "worst pair",
    "unseen": "unseen kinds",
}
KEPT = ("comparisons", "detectable", "pareto", "warnings", "signatures")


def rows(scores: Mapping[str, Any], order: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each model of SCORES: first those that `order` names, then the others."""
    models = scores["models"]
    named = [name for name in dict.fromkeys(order) if name in models]
    names = named + [name for name in models if name not in named]
    return [{"name": name, **models[name]} for name in names]


def table(scores: Mapping[str, Any], order: Sequence[str] = ()) -> dict[str, Any]:
    """The content of table.json."""
    return {"rows": rows(scores, order), **{name: scores[name] for name in KEPT}}


def render(content: Mapping[str, Any]) -> "Group":
    """Rich tables of the content of table.json, at most 100 columns wide, and what to know."""
    from rich.console import Group
    from rich.text import Text

    tables = [_main(content), *attributed(content), *_parts(content["rows"])]
    against = content["comparisons"]
    if against:
        tables.append(_differences(against))
    spaced = [part for shown in tables for part in (shown, Text(""))]
    return Group(*spaced, *(Text(line) for line in notes(content)))


def _main(content: Mapping[str, Any]) -> "Group":
    names = (*(name for name in COLUMNS.values()), "n", "pairs")
    shown = table_of(names)
    for row in content["rows"]:
        cells = [_cell(row, metric) + _floor(row, metric) for metric in COLUMNS]
        add(shown, [row["name"], *cells, row["n"], row["pairs"]])
    return framed(heading(content), shown, footnote(content))


def _parts(found: Sequence[Mapping[str, Any]]) -> list["Group"]:
    """RS of each part of the pairs, so many columns abreast as fit."""
    heads: dict[tuple[str, ...], str] = {}
    heads |= {("by_type", kind): kind for row in found for kind in row["by_type"]}
    heads |= {(part,): title for part, title in PARTS.items() if any(part in row for row in found)}
    tables = []
    paths = list(heads)
    for start in range(0, len(paths), ABREAST):
        own = paths[start : start + ABREAST]
        names = [f"{heads[path]}\n{_size(found, path)}" for path in own]
        title = "RS by kind of rewording, and of whole groups" if not start else "RS, continued"
        shown = table_of(names)
        for row in found:
            add(shown, [row["name"], *(_cell(_part(row, path), "rs") for path in own)])
        tables.append(framed(title, shown))
    return tables


def _part(row: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    found: Any = row
    for step in path:
        found = found.get(step) or {}
    return found if "rs" in found else {"rs": None, "ci": {}}


def _size(found: Sequence[Mapping[str, Any]], path: Sequence[str]) -> str:
    """`n` pairs of a part, or questions where each counts once; the least of the rows."""
    parts = [part for row in found if (part := _part(row, path)).get("n") is not None]
    if not parts:
        return "-"
    if any("pairs" in part for part in parts):
        return counted(min(part["pairs"] for part in parts), "pair")
    return counted(min(part["n"] for part in parts), "question")


def _differences(against: Mapping[str, Any]) -> "Group":
    """The row in focus minus every other."""
    title = f"{against['focus']} minus the others, paired: difference ± half of the 95 % interval"
    claims = "* claimed: sign-flip p < .05 after Holm, one sign in every seed, interval without 0"
    shown = table_of([*COLUMNS.values()])
    for name, found in against["against"].items():
        add(shown, [name, *(_difference(found.get(metric)) for metric in COLUMNS)])
    return framed(title, shown, claims)


def _difference(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "-"
    star = " *" if entry["claim"] else ""
    if entry["ci"] is None:
        return _signed(entry["difference"])
    low, high = entry["ci"]
    return f"{_signed(entry['difference'])} ±{number((high - low) / 2)}{star}"


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{number(abs(value))}"


def heading(content: Mapping[str, Any]) -> str:
    """The size of the table, and what may not be concluded from it."""
    first = content["rows"][0] if content["rows"] else {"n": 0, "pairs": 0}
    questions = first.get("questions", first["n"])
    seeds = max((len(row.get("seeds", "0")) for row in content["rows"]), default=1)
    size = ", ".join(
        [counted(questions, "question"), counted(first["pairs"], "pair"), counted(seeds, "seed")]
    )
    if min(questions, first["n"] or questions) < FEWEST:
        return f"{size}: {TOO_FEW}"
    return f"{size}; 95 % intervals over questions"


def footnote(content: Mapping[str, Any]) -> str:
    """The smallest difference that the table could detect, and what RS and BS are."""
    found = content["detectable"]
    parts = [f"{title} {number(found.get(metric))}" for metric, title in COLUMNS.items()]
    signatures = content["signatures"]
    return (
        f"Smallest detectable difference (80 % power, 5 % after Holm): {', '.join(parts)}\n"
        f"RS: {signatures['rs']}. BS: {signatures['bs']}.\n"
        f"BLEU: {signatures['bleu']}"
    )


def notes(content: Mapping[str, Any]) -> list[str]:
    """What was left out, counted by name, and warnings."""
    lines = [f"warning: {warning}" for warning in content["warnings"]]
    for row in content["rows"]:
        said = [counted(row[k], noun) + rest for k, (noun, rest) in _COUNTED.items() if row.get(k)]
        said += [f"{counted(n, what[:-1])} left out" for what, n in row["left_out"].items() if n]
        said += [f"{TITLES.get(m, m)} unscored on {n:,}" for m, n in row["unscored"].items()]
        guard = ", ".join(f"{reason} {n:,}" for reason, n in row.get("guard", {}).items())
        said += [f"refused as equivalent by the guard: {guard}"] if guard else []
        lines += [f"{row['name']}: {'; '.join(said)}"] if said else []
    aside = content["signatures"]["set_aside"]
    if aside["answers"]:
        lines.append(f"{counted(aside['answers'], 'answer')} with other contexts set aside")
    lines += unknown(content["rows"])
    front = content["pareto"]["front"]
    if len(content["rows"]) > 1 and front:
        lines.append(f"Pareto front of ROUGE-L and RS: {', '.join(front)}")
    return lines


_COUNTED = {
    "empty_answers": ("empty answer", ""),
    "without_tokens": ("answer", " without a word that ROUGE knows"),
    "missing_pairs": ("variation", " without an answer to the original"),
}


def _cell(row: Mapping[str, Any], metric: str) -> str:
    return scored(row[metric], row["ci"].get(metric))


def _floor(row: Mapping[str, Any], metric: str) -> str:
    """The noise floor of a metric of consistency on a line of its own, where there is one."""
    floor = row.get("noise_floor", {}).get(metric)
    return f"\nfloor {number(floor)}" if floor is not None and metric in CONSISTENCY else ""


def differences(found: Mapping[str, Any]) -> "Group":
    """What `accord compare` shows: every paired difference, then what can be claimed."""
    from rich.console import Group
    from rich.text import Text

    own = found["differences"]
    title = f"{found['a']} minus {found['b']}, paired by question and variation"
    names = ["a", "b", "difference [95 % interval]", "p", "Holm", "detectable", "n", "pairs"]
    caption = (
        f"p: sign-flip test; Holm: after {own['tests']} tests; detectable: found in 80 % of samples"
    )
    shown = table_of(names, first="metric", width=26)
    for path, entry in sorted(_entries(own), key=lambda found: ": " in found[0]):
        add(shown, [path, *_compared(entry)])
    lost = [
        f"{count:,} {name.replace('_', ' ')}" for name, count in own["left_out"].items() if count
    ]
    lines = [f"left out: {', '.join(lost)}"] if lost else []
    return Group(
        framed(title, shown, caption), *(Text(line) for line in [*lines, found["sentence"]])
    )


def _entries(own: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """(path, difference) of everything compared."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for name, value in own.items():
        if isinstance(value, Mapping) and "difference" in value:
            found.append((prefix + {**TITLES, "rs_area": "RS area"}.get(name, name), value))
        elif isinstance(value, Mapping) and name != "left_out":
            step = "" if name == "by_type" else f"{PARTS.get(name, name)}: "
            found += _entries(value, prefix + step)
    return found


def _compared(entry: Mapping[str, Any]) -> list[str]:
    ends = ", ".join(_signed(end) for end in entry["ci"]) if entry["ci"] else "-"
    star = " *" if entry.get("claim") else ""
    return [
        number(entry["a"]),
        number(entry["b"]),
        f"{_signed(entry['difference'])} [{ends}]{star}",
        _chance(entry.get("p")),
        _chance(entry.get("p_holm")),
        number(entry.get("detectable")),
        f"{entry['n']:,}",
        "-" if entry["pairs"] is None else f"{entry['pairs']:,}",
    ]


def _chance(p: float | None) -> str:
    return "<.001" if p is not None and p < 0.001 else number(p)

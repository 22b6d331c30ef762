"""The table: a row for each model, with its intervals and what it could detect at all."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = {"rouge_l": "ROUGE-L", "bleu": "BLEU", "em": "EM", "rs": "RS", "bs": "BS"}
WIDTH = 100  # of the terminal: 12 for the name, 14 for each score, 5 and 6 for the sizes, 7 between
NAME_WIDTH = 12
FEWEST = 100  # questions; with fewer, a table is evidence of nothing but that the pipeline runs
TOO_FEW = "shows that the pipeline runs; it is no evidence"


def rows(scores: Mapping[str, Any], order: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each model of SCORES: first those that `order` names, then the others."""
    models = scores["models"]
    named = [name for name in dict.fromkeys(order) if name in models]
    names = named + [name for name in models if name not in named]
    return [{"name": name, **models[name]} for name in names]


def table(scores: Mapping[str, Any], order: Sequence[str] = ()) -> dict[str, Any]:
    """The content of table.json."""
    return {
        "rows": rows(scores, order),
        "detectable": scores["detectable"],
        "signatures": scores["signatures"],
    }


def render(content: Mapping[str, Any]) -> "Table":
    """A rich table of the content of table.json, at most 100 columns wide (names to 12, folded)."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, not strings: rich would read `[.36-.47]` or a model's name as markup.
    shown = Table(
        title=Text(heading(content)),
        caption=Text(footnote(content)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    shown.add_column("model", overflow="fold", max_width=NAME_WIDTH)
    for name in (*COLUMNS.values(), "n", "pairs"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in content["rows"]:
        cells = [row["name"], *(_cell(row, metric) for metric in COLUMNS)]
        shown.add_row(*(Text(str(cell)) for cell in (*cells, row["n"], row["pairs"])))
    return shown


def heading(content: Mapping[str, Any]) -> str:
    """The size of the table, and what may not be concluded from it."""
    first = content["rows"][0] if content["rows"] else {"n": 0, "pairs": 0}
    questions = first.get("questions", first["n"])
    seeds = content["signatures"].get("seeds", 1)
    size = ", ".join(
        [_number(questions, "question"), _number(first["pairs"], "pair"), _number(seeds, "seed")]
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
        f"Smallest detectable difference (80 % power, two-sided 5 %): {', '.join(parts)}\n"
        f"RS: {signatures['rs']}. BS: {signatures['bs']}."
    )


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _cell(row: Mapping[str, Any], metric: str) -> str:
    """A score with its interval, such as `.412 [.36-.47]`; at most 14 characters."""
    value, interval = row[metric], row["ci"].get(metric)
    if value is None or interval is None:
        return number(value)
    low, high = (number(end, 2) for end in interval)
    return f"{number(value)} [{low}-{high}]"


def number(value: float | None, digits: int = 3) -> str:
    """A fraction as `.412`; `1.00`, of the same width, where it rounds to one; `-` for null."""
    if value is None:
        return "-"
    shown = f"{value:.{digits}f}"
    return shown[1:] if shown.startswith("0") else shown[:-1]

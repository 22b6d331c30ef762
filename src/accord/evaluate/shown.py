"""The pieces that the tables of a terminal share: titles, cells, numbers as printed."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

NAME_WIDTH = 12  # with 14 for each score and 14 for the sizes the widest table has 100 columns


def framed(title: str, shown: "Table", caption: str = "") -> "Group":
    """A table between its title and caption, which are not folded to its width."""
    from rich.console import Group
    from rich.text import Text

    below = [Text(caption, style="dim")] if caption else []
    return Group(Text(title, style="italic"), shown, *below)


def table_of(columns: Iterable[str], first: str = "model", width: int = 14) -> "Table":
    """An empty table; its cells are folded to `width`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, not strings: rich would read `[.36-.47]` or a model's name as markup.
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    shown.add_column(first, overflow="fold", max_width=NAME_WIDTH if width == 14 else width)
    for name in columns:
        shown.add_column(Text(name), justify="right", overflow="fold", max_width=width)
    return shown


def add(shown: "Table", cells: Sequence[Any]) -> None:
    """One more row."""
    from rich.text import Text

    shown.add_row(*(Text(str(cell)) for cell in cells))


def number(value: float | None, digits: int = 3) -> str:
    """A fraction as `.412`; `1.00`, of the same width, where it rounds to one; `-` for null."""
    if value is None:
        return "-"
    shown = f"{value:.{digits}f}"
    return shown[1:] if shown.startswith("0") else shown[:-1]


def scored(value: float | None, interval: Sequence[float] | None) -> str:
    """A score with its interval, such as `.412 [.36-.47]`; at most 14 characters."""
    if value is None or interval is None:
        return number(value)
    low, high = (number(end, 2) for end in interval)
    return f"{number(value)} [{low}-{high}]"


def counted(count: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

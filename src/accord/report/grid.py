"""Tables as they are printed: a cell has a number and, in small print, what it rests on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accord.report.svg import interval, number


class Cell(NamedTuple):
    """A number as printed, small print below it line by line, and whether it stands out."""

    text: str
    small: tuple[str, ...] = ()
    strong: bool = False


class Grid(NamedTuple):
    """Headings, each with its small print, and named rows of as many cells."""

    headings: list[tuple[str, str]]
    rows: list[tuple[str, list[Cell]]]


def fixed(value: object) -> str:
    """A whole number as it is, a fraction with three decimals, nothing as a dash."""
    found = number(value)
    if found is None:
        return "-"
    return f"{int(found):,}" if isinstance(value, int) else f"{found:.3f}"


def ends_of(row: object, metric: str) -> str:
    """The 95 % interval of `metric`, "" where there is none."""
    ends = interval(row, metric)
    return f"{ends[0]:.3f}\N{EN DASH}{ends[1]:.3f}" if ends else ""


def plural(count: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def span(counts: Sequence[int], noun: str) -> str:
    """`2 pairs` where all counts are the same, else `2 to 5 pairs`; "" for none."""
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    return plural(most, noun) if least == most else f"{least:,} to {plural(most, noun)}"


def size_of(part: Mapping[str, Any]) -> str:
    """The questions `n` and the `pairs` behind a number, as far as it says them."""
    known = [(number(part.get("n")), "question"), (number(part.get("pairs")), "pair")]
    return ", ".join(plural(int(count), noun) for count, noun in known if count is not None)


def sized(columns: Sequence[tuple[str, Sequence[tuple[Cell, str]]]], names: Sequence[str]) -> Grid:
    """A grid of columns (heading, cells with their sizes).

    A size stands in the heading where all cells of the column share it, else below each number.
    """
    headings, cells = [], []
    for title, column in columns:
        sizes = {size for _, size in column if size}
        common = sizes.pop() if len(sizes) == 1 else ""
        headings.append((title, common))
        cells.append([cell if common or not size else _with(cell, size) for cell, size in column])
    return Grid(headings, [(name, [own[i] for own in cells]) for i, name in enumerate(names)])


def _with(cell: Cell, size: str) -> Cell:
    return cell._replace(small=(*cell.small, size))


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a mapping, else an empty one: an older run may lack any part."""
    return value if isinstance(value, Mapping) else {}


def listing(value: object) -> Sequence[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list | tuple) else ()

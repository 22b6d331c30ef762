"""The accuracy-consistency plane: every row of the table as a point with its intervals.

Accuracy and consistency pull apart (a model that always says the same thing is consistent), so
neither is shown without the other, and ALL is on the picture beside the merge.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from accord.report.roles import legend
from accord.report.svg import (
    SMALL,
    Scale,
    interval,
    line,
    mark,
    number,
    shorten,
    svg,
    tag,
    text,
    tick_label,
    ticks,
    width_of,
)

_LEFT, _RIGHT, _BOTTOM = 48, 14, 44
_BOLD = 1.12  # how much wider the names are than plain text
_DIRECTIONS = ((1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1))
_RADII = (9, 15, 24, 36, 50, 70, 95, 125)


class Box(NamedTuple):
    """A rectangle in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    def meets(self, other: "Box") -> bool:
        """Whether the two overlap."""
        return (
            self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1
        )

    def inside(self, other: "Box") -> bool:
        """Whether all of this one lies in `other`."""
        return (
            self.x0 >= other.x0
            and self.x1 <= other.x1
            and self.y0 >= other.y0
            and self.y1 <= other.y1
        )


class Point(NamedTuple):
    """A row that has both numbers."""

    name: str
    x: float
    y: float
    x_interval: tuple[float, float] | None
    y_interval: tuple[float, float] | None


class Label(NamedTuple):
    """Where a point's name is written."""

    text: str
    box: Box
    leader: bool  # far enough from its point to need a line to it


def plane(rows: Iterable[Mapping[str, Any]], roles: Mapping[str, str], width: int = 680) -> str:
    """x = ROUGE-L, y = RS, 95 % intervals as crosses, the Pareto front as rings and a staircase.

    Returns "" when no row has both numbers.
    """
    points = points_of(rows)
    if not points:
        return ""
    key, top = legend(roles, [p.name for p in points], width)
    height = top + max(280, round(width * 0.56)) + _BOTTOM
    frame = Box(_LEFT, top, width - _RIGHT, height - _BOTTOM)
    x = Scale(*_extent([p.x_interval or (p.x, p.x) for p in points]), frame.x0, frame.x1)
    y = Scale(*_extent([p.y_interval or (p.y, p.y) for p in points]), frame.y1, frame.y0)
    best = pareto(points) if len(points) > 1 else []  # one point alone beats no one
    parts = [*key, *_axes(x, y, frame), _staircase(best, x, y, frame)]
    parts += [cross for p in points for cross in _crosses(p, x, y)]
    parts += [tag("circle", cx=x(p.x), cy=y(p.y), r=9.0, class_="ring") for p in best]
    labels = place([(p.name, x(p.x), y(p.y)) for p in points], _whiskers(points, x, y), frame)
    parts += [_leader(label, x(p.x), y(p.y)) for p, label in zip(points, labels, strict=True)]
    parts += [mark(roles.get(p.name, "other"), x(p.x), y(p.y), _sentence(p)) for p in points]
    parts += [
        text(a.box.x0, a.box.y1 - 3.5, a.text, f"halo {roles.get(p.name, 'other')}-text")
        for p, a in zip(points, labels, strict=True)
    ]
    desc = " ".join(
        _sentence(p) + (" No other beats it in both." if p in best else "") for p in points
    )
    title = "Accuracy (ROUGE-L) against consistency (RS) of each model"
    return svg(f"plane-{width}", (width, height), title, desc, parts)


def points_of(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The rows that have both ROUGE-L and RS."""
    found = []
    for row in rows:
        x, y = number(row.get("rouge_l")), number(row.get("rs"))
        if x is not None and y is not None:
            name = str(row.get("name"))
            found.append(Point(name, x, y, interval(row, "rouge_l"), interval(row, "rs")))
    return found


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in one number without losing in the other, by rising x."""
    front = [
        p
        for p in points
        if not any(q.x >= p.x and q.y >= p.y and (q.x > p.x or q.y > p.y) for q in points)
    ]
    return sorted(front, key=lambda p: (p.x, -p.y))


def place(
    points: Sequence[tuple[str, float, float]], soft: Sequence[Box], frame: Box
) -> list[Label]:
    """A place for each name, greedily: off all points and earlier names, off `soft` if it can."""
    taken = [_around(x, y, 7) for _, x, y in points]
    labels = []
    for i, (name, x, y) in enumerate(points):
        shown = shorten(name, 130)
        others = [_around(a, b, 14) for j, (_, a, b) in enumerate(points) if j != i]
        _, radius, box = min(
            (radius + _cost(box, taken, others, soft, frame), radius, box)
            for radius, box in _candidates(x, y, width_of(shown) * _BOLD + 2)
        )
        taken.append(box)
        labels.append(Label(shown, box, radius > 14))
    return labels


def _cost(
    box: Box, taken: Sequence[Box], others: Sequence[Box], soft: Sequence[Box], frame: Box
) -> float:
    """Covering anything is out; hugging another point is bad, for the name reads as that one's."""
    clashes = sum(box.meets(other) for other in taken) + (not box.inside(frame))
    hugged = sum(box.meets(other) for other in others)
    return 1000.0 * clashes + 40 * hugged + 14 * sum(box.meets(other) for other in soft)


def _around(x: float, y: float, reach: float) -> Box:
    return Box(x - reach, y - reach, x + reach, y + reach)


def _candidates(x: float, y: float, width: float) -> Iterator[tuple[float, Box]]:
    for radius in _RADII:
        for dx, dy in _DIRECTIONS:
            # Diagonals as far from the point as the straight directions.
            reach = radius * (math.sqrt(0.5) if dx and dy else 1)
            left = x + dx * reach - (0.5 - dx / 2) * width
            top = y + dy * reach - (0.5 - dy / 2) * 14
            yield radius, Box(left, top, left + width, top + 14)


def _extent(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    flat = [value for pair in pairs for value in pair]
    lo, hi = min(flat), max(flat)
    pad = (hi - lo) * 0.07 or 0.05
    return (max(lo - pad, min(lo, 0.0)), min(hi + pad, max(hi, 1.0)))


def _axes(x: Scale, y: Scale, frame: Box) -> Iterator[str]:
    xs, ys = ticks(x.lo, x.hi, round((x.end - x.start) / 85)), ticks(y.lo, y.hi, 6)
    for value in xs:
        yield line(x(value), frame.y0, x(value), frame.y1, "grid")
        label = tick_label(value, xs)
        yield text(x(value), frame.y1 + 16, label, "muted", text_anchor="middle", font_size=SMALL)
    for value in ys:
        yield line(frame.x0, y(value), frame.x1, y(value), "grid")
        label = tick_label(value, ys)
        yield text(frame.x0 - 6, y(value) + 4, label, "muted", text_anchor="end", font_size=SMALL)
    middle = (frame.x0 + frame.x1) / 2
    yield text(middle, frame.y1 + 36, "ROUGE-L: more accurate →", text_anchor="middle")
    half = (frame.y0 + frame.y1) / 2
    turned = f"rotate(-90 12 {half:.1f})"
    yield text(12, half, "RS: more consistent →", text_anchor="middle", transform=turned)


def _staircase(front: Sequence[Point], x: Scale, y: Scale, frame: Box) -> str:
    if not front:
        return ""
    steps = f"M{frame.x0:.1f} {y(front[0].y):.1f}"
    for p in front:
        steps += f"V{y(p.y):.1f}H{x(p.x):.1f}"
    return tag("path", d=steps + f"V{frame.y1:.1f}", class_="front")


def _crosses(p: Point, x: Scale, y: Scale) -> Iterator[str]:
    if p.x_interval:
        yield line(x(p.x_interval[0]), y(p.y), x(p.x_interval[1]), y(p.y), "cross")
    if p.y_interval:
        yield line(x(p.x), y(p.y_interval[0]), x(p.x), y(p.y_interval[1]), "cross")


def _whiskers(points: Iterable[Point], x: Scale, y: Scale) -> list[Box]:
    boxes = []
    for p in points:
        if p.x_interval:
            lo, hi = p.x_interval
            boxes.append(Box(x(lo), y(p.y) - 1, x(hi), y(p.y) + 1))
        if p.y_interval:
            lo, hi = p.y_interval
            boxes.append(Box(x(p.x) - 1, y(hi), x(p.x) + 1, y(lo)))
    return boxes


def _leader(label: Label, x: float, y: float) -> str:
    if not label.leader:
        return ""
    box = label.box
    near_x, near_y = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
    return line(x, y, near_x, near_y, "leader")


def _sentence(p: Point) -> str:
    def spelled(value: float, ends: tuple[float, float] | None) -> str:
        return f"{value:.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")

    return f"{p.name}: ROUGE-L {spelled(p.x, p.x_interval)}, RS {spelled(p.y, p.y_interval)}."

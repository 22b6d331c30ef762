"""RS at every threshold T, so that a reader sees whether the choice of T decides who is ahead."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from accord.report.grid import listing, mapping
from accord.report.svg import (
    DASHES,
    SMALL,
    Scale,
    line,
    number,
    shorten,
    svg,
    tag,
    text,
    tick_label,
    ticks,
    tooltip,
    width_of,
)

MOST = 8  # lines that can still be told apart
_LEFT, _TOP, _HIGH, _GAP = 48, 24, 240, 16


class Curve(NamedTuple):
    """The share of a row's pairs whose ROUGE-L F1 is above each T."""

    name: str
    points: tuple[tuple[float, float], ...]  # (T, RS), by rising T

    def at(self, T: float) -> float | None:
        """RS at T, None where it was not computed."""
        return next((rs for at, rs in self.points if abs(at - T) < 1e-9), None)


def curves_of(rows: Iterable[Mapping[str, Any]]) -> list[Curve]:
    """The rows that have a curve."""
    found = []
    for row in rows:
        given = mapping(row.get("rs_curve"))
        pairs = zip(listing(given.get("T")), listing(given.get("rs")), strict=False)
        known = [(number(T), number(rs)) for T, rs in pairs]
        points = sorted((T, rs) for T, rs in known if T is not None and rs is not None)
        if len(points) > 1:
            found.append(Curve(str(row.get("name")), tuple(points)))
    return found


def shown(curves: Sequence[Curve], focus: str | None) -> list[Curve]:
    """At most MOST curves, the one in focus among them, in the order of the table."""
    first = sorted(curves, key=lambda curve: curve.name != focus)[:MOST]
    return [curve for curve in curves if curve in first]


def chart(
    curves: Sequence[Curve],
    roles: Mapping[str, str],
    T: float | None,
    focus: str | None = None,
    width: int = 680,
) -> str:
    """A line for each curve with its name at its end, and the chosen T marked; "" for none.

    Its colour is that of the row's role on the page; lines of one colour differ in their dashes.
    """
    if not curves:
        return ""
    names = min(max(width_of(c.name[:200], SMALL) for c in curves) + 10, width * 0.27)
    every = [at for curve in curves for at, _ in curve.points]
    x = Scale(min(every), max(every), _LEFT, width - names - 22)
    y = Scale(0, 1, _TOP + _HIGH, _TOP)
    parts = [*_axes(x, y), *_chosen(T, x, y)]
    ends = apart([y(curve.points[-1][1]) for curve in curves], _GAP, y.end, y.start)
    for i, (curve, end) in enumerate(zip(curves, ends, strict=True)):
        style = roles.get(curve.name, "other") + (" focus" if curve.name == focus else "")
        parts.append(_line(curve, x, y, f"series {style}", DASHES[i % MOST]))
        last = curve.points[-1]
        parts.append(line(x(last[0]) + 2, y(last[1]), x.end + 16, end, "leader"))
        label = shorten(curve.name, names, SMALL)
        strong = "ink strong" if curve.name == focus else "ink"
        parts.append(text(x.end + 20, end + 4, label, strong, font_size=SMALL))
    title = "RS of each model by the threshold T"
    desc = " ".join(_spoken(curve, T) for curve in curves)
    return svg(f"curve-{width}", (width, _TOP + _HIGH + 44), title, desc, parts)


def apart(wanted: Sequence[float], gap: float, lo: float, hi: float) -> list[float]:
    """Places near `wanted`, in their order, `gap` apart and in [lo, hi] where they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [0.0] * len(wanted)
    above = lo - gap
    for i in order:
        places[i] = above = max(wanted[i], above + gap)
    below = hi + gap
    for i in reversed(order):
        places[i] = below = min(places[i], below - gap)
    return places


def leaders(curves: Sequence[Curve], T: float | None) -> str:
    """Who is highest at the chosen T, and at how many of the thresholds."""
    at = {c.name: rs for c in curves if T is not None and (rs := c.at(T)) is not None}
    if len(at) < 2:
        return ""
    best = max(at, key=lambda name: at[name])
    own = next(curve for curve in curves if curve.name == best)
    highest = [
        all(rs >= other for c in curves if (other := c.at(t)) is not None) for t, rs in own.points
    ]
    return f"{best} is highest at T = {T:g}, and at {sum(highest)} of {len(highest)} thresholds."


def _line(curve: Curve, x: Scale, y: Scale, style: str, dash: str | None) -> str:
    path = "M" + "L".join(f"{x(T):.1f} {y(rs):.1f}" for T, rs in curve.points)
    return tag("path", tooltip(curve.name), d=path, class_=style, stroke_dasharray=dash)


def _chosen(T: float | None, x: Scale, y: Scale) -> Iterator[str]:
    if T is not None and x.lo <= T <= x.hi:
        yield line(x(T), y.start, x(T), y.end - 6, "axis", stroke_dasharray="3 3")
        yield text(x(T), y.end - 10, f"T = {T:g}", "ink strong", text_anchor="middle")


def _axes(x: Scale, y: Scale) -> Iterator[str]:
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield line(x.start, y(value), x.end, y(value), "grid")
        label = f"{value:g}"
        yield text(x.start - 8, y(value) + 4, label, "muted", text_anchor="end", font_size=SMALL)
    values = ticks(x.lo, x.hi, max(2, round((x.end - x.start) / 70)))
    for value in values:
        tick = tick_label(value, values)
        yield text(x(value), y.start + 16, tick, "muted", text_anchor="middle", font_size=SMALL)
    middle = (x.start + x.end) / 2
    yield text(middle, y.start + 36, "threshold T: stricter →", text_anchor="middle")
    half = (y.start + y.end) / 2
    turned = f"rotate(-90 12 {half:.1f})"
    yield text(12, half, "RS", text_anchor="middle", transform=turned)


def _spoken(curve: Curve, T: float | None) -> str:
    """RS at three thresholds and at the chosen one, for those who do not see the lines."""
    wanted = sorted({0.5, 0.7, 0.9} | (set() if T is None else {T}))
    known = [(t, rs) for t in wanted if (rs := curve.at(t)) is not None]
    first, last = curve.points[0], curve.points[-1]
    said = ", ".join(f"{rs:.3f} at T {t:g}" for t, rs in known or (first, last))
    return f"{curve.name}: RS {said}."

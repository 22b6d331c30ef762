"""The few pieces of SVG that the charts share.

Colours are CSS classes of the page, so that one picture serves light, dark and print. A picture is
never scaled down: text stays at 11px and more, and each chart is drawn for a given width instead.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

# Characters that XML 1.0 forbids even when escaped, and halves of surrogate pairs.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
SMALL = 11
NORMAL = 12
# Of lines, for those who cannot tell the colours.
DASHES = (None, "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "9 3 2 3 2 3", "1 5")


class Scale(NamedTuple):
    """A linear map from data [lo, hi] to pixels [start, end]."""

    lo: float
    hi: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of `value`; the middle where the range is a single value."""
        share = (value - self.lo) / (self.hi - self.lo) if self.hi > self.lo else 0.5
        return self.start + share * (self.end - self.start)


def number(value: object) -> float | None:
    """`value` as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(row: object, metric: str) -> tuple[float, float] | None:
    """The interval of `metric` in a row of the table, if it has one."""
    ci = row.get("ci") if isinstance(row, Mapping) else None
    pair = ci.get(metric) if isinstance(ci, Mapping) else None
    if not isinstance(pair, Sequence) or len(pair) != 2:
        return None
    lo, hi = number(pair[0]), number(pair[1])
    return None if lo is None or hi is None else (lo, hi)


def clean(text: object) -> str:
    """`text` without the characters that no XML or UTF-8 file may hold."""
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def tag(name: str, content: str = "", **attributes: Any) -> str:
    """An element; `content` is markup already. `class_` is `class`, `stroke_width` has a dash."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _attribute(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else clean(value)


def text(x: float, y: float, content: object, class_: str = "ink", **attributes: Any) -> str:
    """A line of text; `content` is escaped."""
    attributes.setdefault("font_size", NORMAL)
    return tag("text", escape(clean(content)), x=float(x), y=float(y), class_=class_, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **attributes: Any) -> str:
    """A straight line."""
    ends: dict[str, Any] = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return tag("line", **ends, **attributes, class_=class_)


def tooltip(content: object) -> str:
    """The text shown when the pointer rests on an element."""
    return tag("title", escape(clean(content)))


def svg(ident: str, size: tuple[float, float], title: str, desc: str, parts: Iterable[str]) -> str:
    """A whole picture with its title and description for screen readers."""
    width, height = round(size[0]), round(size[1])
    named = tag("title", escape(clean(title)), id=f"{ident}-t") + tag(
        "desc", escape(clean(desc)), id=f"{ident}-d"
    )
    return tag(
        "svg",
        named + "".join(parts),
        role="img",
        aria_labelledby=f"{ident}-t {ident}-d",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
    )


def mark(role: str, x: float, y: float, hover: str = "") -> str:
    """A point; shape as well as colour tell the role, for those who cannot tell the colours."""
    shapes = {
        "specialist": f"M{x:.1f} {y - 6:.1f}l5.6 10h-11.2z",
        "all": f"M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9z",
        "merged": f"M{x:.1f} {y - 7:.1f}l7 7-7 7-7-7z",
        "other": f"M{x - 5:.1f} {y - 1.5:.1f}h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z",
    }
    inner = tooltip(hover) if hover else ""
    if role in shapes:
        return tag("path", inner, d=shapes[role], class_=f"mark {role}")
    return tag("circle", inner, cx=float(x), cy=float(y), r=4.8, class_=f"mark {role}")


def ticks(lo: float, hi: float, count: int = 5) -> list[float]:
    """About `count` round numbers between `lo` and `hi`."""
    if not hi > lo:
        return [lo]
    rough = (hi - lo) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5) if m * power >= rough), 10 * power)
    first = math.ceil(lo / step - 1e-9)
    return [i * step for i in range(first, math.floor(hi / step + 1e-9) + 1)]


def tick_label(value: float, values: Sequence[float]) -> str:
    """`value` with as many decimals as tell the ticks apart."""
    step = values[1] - values[0] if len(values) > 1 else 0.01
    decimals = max(0, math.ceil(-math.log10(step) - 1e-9)) if step > 0 else 2
    return f"{value:.{decimals}f}"


def width_of(content: str, size: float = NORMAL) -> float:
    """About how many pixels `content` takes; wide scripts and emoji count double."""
    units = sum(1.05 if unicodedata.east_asian_width(c) in "WF" else 0.6 for c in content)
    return units * size


def shorten(content: object, room: float, size: float = NORMAL) -> str:
    """`content` cut with an ellipsis to fit into `room` pixels."""
    cut = clean(content)[:200]
    if width_of(cut, size) <= room:
        return cut
    while cut and width_of(cut + "…", size) > room:
        cut = cut[:-1]
    return cut + "…"

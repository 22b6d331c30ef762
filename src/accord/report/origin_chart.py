"""Bars of the inconsistency: what the generator shows with passages held, what retrieval adds."""

from collections.abc import Iterator, Sequence

from accord.report.origins import Origin
from accord.report.svg import (
    SMALL,
    Scale,
    line,
    shorten,
    svg,
    tag,
    text,
    tick_label,
    ticks,
    tooltip,
    width_of,
)

_ROW, _TALL = 30, 15
_KEYS = (("noise", "noise"), ("generator", "generator"), ("retriever", "retriever"))


def chart(ident: str, bars: Sequence[Origin], metric: str, width: int) -> str:
    """A bar for each row: 1 - C_e2e from 0, cut where 1 - C_gen ends; "" without bars.

    Where the passages of the original make rewordings agree less, the generator's part is longer
    than the bar, whose end is marked.
    """
    if not bars:
        return ""
    left = min(max(width_of(bar.name[:200]) for bar in bars) + 14, width * 0.28)
    room = max(width_of(bar.label, SMALL) for bar in bars) + 12
    beside = width - left - room >= 160  # else the label stands below its bar
    longest = max(max(1 - bar.e2e, 1 - bar.gen) for bar in bars)
    x = Scale(0, min(1.0, longest * 1.05) or 1.0, left, width - (room if beside else 16))
    step = _ROW if beside else _ROW + 16
    top, bottom = 30, 30 + len(bars) * step
    values = ticks(x.lo, x.hi, max(2, int((x.end - x.start) // 60)))
    parts = list(_legend(bars))
    for value in values:
        parts.append(line(x(value), top - 4, x(value), bottom, "grid"))
        label = tick_label(value, values)
        parts.append(
            text(x(value), bottom + 14, label, "muted", text_anchor="middle", font_size=SMALL)
        )
    for i, bar in enumerate(bars):
        parts += _bar(bar, x, top + i * step + _ROW / 2, width, beside)
    title = f"Share of pairs that disagree (1 - {metric}), by where it comes from"
    desc = " ".join(f"{b.name}: {1 - b.e2e:.3f}, retriever {b.label}." for b in bars)
    return svg(f"{ident}-{width}", (width, bottom + 22), title, desc, parts)


def _legend(bars: Sequence[Origin]) -> Iterator[str]:
    x = 8.0
    for key, label in _KEYS:
        if key == "noise" and all(bar.floor is None for bar in bars):
            continue
        yield tag("rect", x=x, y=2.0, width=14.0, height=12.0, class_=f"part {key}")
        yield text(x + 20, 12, label, "muted")
        x += 20 + width_of(label) + 18


def _bar(bar: Origin, x: Scale, y: float, width: float, beside: bool) -> Iterator[str]:
    yield text(x.start - 8, y + 4, shorten(bar.name, x.start - 10), text_anchor="end")
    noise = min(1 - (1 if bar.floor is None else bar.floor), 1 - bar.gen)
    spans = {
        "noise": (0.0, noise),
        "generator": (noise, 1 - bar.gen),
        "retriever": (1 - bar.gen, 1 - bar.e2e),
    }
    class_ = "part observed" if bar.observed else "part"
    for key, (start, end) in spans.items():
        if end > start:
            hover = tooltip(f"{bar.name}, {key}: {end - start:.3f}")
            places = {"x": x(start), "y": y - _TALL / 2, "width": x(end) - x(start)}
            yield tag("rect", hover, **places, height=float(_TALL), class_=f"{class_} {key}")
    if bar.gen < bar.e2e:
        yield line(x(1 - bar.e2e), y - _TALL / 2 - 3, x(1 - bar.e2e), y + _TALL / 2 + 3, "whisker")
    yield from _whisker(bar, x, y)
    at = {"text_anchor": "end", "font_size": SMALL}
    yield text(width - 2, y + (4 if beside else 22), bar.label, "muted", **at)


def _whisker(bar: Origin, x: Scale, y: float) -> Iterator[str]:
    """The interval of the share, as the place where the bar could be cut as well."""
    if bar.ends is None:
        return
    ends = [(1 - bar.e2e) * (1 - share) for share in bar.ends]
    low, high = (x(min(max(end, x.lo), x.hi)) for end in sorted(ends))
    yield line(low, y, high, y, "whisker")
    for end in (low, high):
        yield line(end, y - 4, end, y + 4, "whisker")

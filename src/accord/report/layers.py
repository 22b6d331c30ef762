"""Pictures of the merge weights and of the distances they come from, models x layers."""

from collections.abc import Iterator, Sequence
from statistics import fmean, median

from accord.records import LayerWeights
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

_RIGHT, _ROW, _STEPS = 12, 26, 24


def heatmap(made: LayerWeights, width: int = 680) -> str:
    """Each model's weight in each layer. The shade starts at 0, so that small gaps look small."""
    rows = list(zip(made.models, made.weights, strict=False))
    values = _finite(made.weights)
    if not values:
        return ""
    left, count = _margin(made.models, width), max(len(row) for row in made.weights)
    lo, hi = min(0.0, *values), max(values)
    parts = []
    for i, (name, row) in enumerate(rows):
        top = 4 + i * _ROW
        label = shorten(name, left - 10)
        parts.append(text(left - 8, top + _ROW / 2 + 4, label, text_anchor="end"))
        parts += _cells(name, row, top, left, (width - left - _RIGHT) / count, (lo, hi))
    bottom = 4 + len(rows) * _ROW
    parts += _layer_axis(Scale(0, count, left, width - _RIGHT), bottom, 0.5)
    parts += _shades(left, bottom + 48, lo, hi)
    desc = " ".join(f"{n}: {_range(row)}." for n, row in rows if _finite([row]))
    title = f"Merge weight of {len(rows)} models in {count} layers"
    return svg(f"weights-{width}", (width, bottom + 80), title, desc, parts)


def _cells(
    name: str,
    row: Sequence[float],
    top: float,
    left: float,
    step: float,
    ends: tuple[float, float],
) -> Iterator[str]:
    gap = 1.0 if step > 5 else 0.0
    for layer, raw in enumerate(row):
        value = number(raw)
        if value is not None:
            yield tag(
                "rect",
                tooltip(f"{name}, layer {layer}: {value:.3f}"),
                x=left + layer * step,
                y=float(top),
                width=step - gap,
                height=_ROW - 2.0,
                class_="cell",
                fill_opacity=_shade(value, *ends),
            )


def _shade(value: float, lo: float, hi: float) -> float:
    return 0.04 + 0.96 * ((value - lo) / (hi - lo) if hi > lo else 0.0)


def _shades(left: float, top: float, lo: float, hi: float) -> Iterator[str]:
    step = 150 / _STEPS
    for i in range(_STEPS):
        opacity = 0.04 + 0.96 * i / (_STEPS - 1)
        x = left + 34 + i * step
        yield tag(
            "rect", x=x, y=float(top), width=step, height=12, class_="cell", fill_opacity=opacity
        )
    yield text(left + 28, top + 10, f"{lo:.2f}", "muted", text_anchor="end", font_size=SMALL)
    yield text(left + 190, top + 10, f"{hi:.2f}", "muted", font_size=SMALL)


def distances(made: LayerWeights, width: int = 680) -> str:
    """Each model's distance by layer, and under it how far the models are apart in each layer."""
    rows = [r for r in made.distances if _finite([r])]
    if not rows or len(rows) != len(made.distances):
        return ""
    count = min(len(row) for row in rows)
    key, top = _key(made.models, width)
    x = Scale(0, max(count - 1, 1), 52, width - _RIGHT - 4)
    values = _finite(rows)
    pad = (max(values) - min(values)) * 0.1 or 0.01
    y = Scale(min(values) - pad, max(values) + pad, top + 150, top)
    parts = [*key, *_value_axis(y, x)]
    for i, row in enumerate(rows):
        path = "M" + "L".join(f"{x(k):.1f} {y(v):.1f}" for k, v in enumerate(row[:count]))
        dash = DASHES[i % 6]
        parts.append(tag("path", d=path, class_=f"series s{i % 6}", stroke_dasharray=dash))
    gaps = spreads(made)
    low = Scale(0, max(gaps) or 1.0, top + 236, top + 186)
    parts.append(text(52, top + 178, "spread: largest minus smallest", "muted", font_size=SMALL))
    parts += _bars(gaps, x, low)
    parts += _layer_axis(x, top + 236, 0.0)
    desc = spread_sentence(made)
    title = "Distance from the reference similarity, by layer"
    return svg(f"distances-{width}", (width, top + 278), title, desc, parts)


def spreads(made: LayerWeights) -> list[float]:
    """Per layer, the largest minus the smallest distance across the models."""
    return [max(layer) - min(layer) for layer in zip(*made.distances, strict=False)]


def spread_sentence(made: LayerWeights) -> str:
    """How far the models' distances are apart, against the size of the distances."""
    if not made.distances or len(_finite(made.distances)) != sum(map(len, made.distances)):
        return ""
    gaps, level = spreads(made), fmean(_finite(made.distances) or [0.0])
    if not gaps:
        return ""
    share = f" ({median(gaps) / level:.1%} of the mean distance, {level:.3g})" if level else ""
    return (
        f"Spread of the distances across the models, per layer: median {median(gaps):.2g}{share}, "
        f"from {min(gaps):.2g} to {max(gaps):.2g}."
    )


def _bars(gaps: Sequence[float], x: Scale, y: Scale) -> Iterator[str]:
    wide = max(1.0, min(10.0, 0.6 * (x.end - x.start) / max(len(gaps), 1)))
    for layer, gap in enumerate(gaps):
        yield tag(
            "rect",
            tooltip(f"layer {layer}: {gap:.2g}"),
            x=x(layer) - wide / 2,
            y=y(gap),
            width=wide,
            height=max(y.start - y(gap), 0.5),
            class_="bar",
        )
    yield line(x.start, y.start, x.end, y.start, "axis")
    for value in (0.0, y.hi):
        label = f"{value:.2g}"
        yield text(x.start - 8, y(value) + 4, label, "muted", text_anchor="end", font_size=SMALL)


def _value_axis(y: Scale, x: Scale) -> Iterator[str]:
    values = ticks(y.lo, y.hi, 4)
    for value in values:
        yield line(x.start, y(value), x.end, y(value), "grid")
        label = tick_label(value, values)
        yield text(x.start - 8, y(value) + 4, label, "muted", text_anchor="end", font_size=SMALL)


def _layer_axis(x: Scale, bottom: float, centre: float) -> Iterator[str]:
    """Layer numbers under their cells (`centre` .5) or points (0)."""
    last = int(x.hi) - (1 if centre else 0)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 10**9) if s * (x(1) - x(0)) >= 24)
    for layer in range(0, last + 1, step):
        at = x(layer + centre)
        yield text(at, bottom + 15, layer, "muted", text_anchor="middle", font_size=SMALL)
    yield text((x.start + x.end) / 2, bottom + 33, "layer", text_anchor="middle")


def _key(models: Sequence[str], width: float) -> tuple[list[str], float]:
    parts, x, y = [], 52.0, 12.0
    for i, name in enumerate(models):
        label = shorten(name, 140)
        needed = width_of(label) + 46
        if x > 52 and x + needed > width:
            x, y = 52.0, y + 18
        dash = DASHES[i % 6]
        parts.append(line(x, y - 4, x + 24, y - 4, f"series s{i % 6}", stroke_dasharray=dash))
        parts.append(text(x + 30, y, label))
        x += needed
    return parts, y + 16


def _margin(names: Sequence[str], width: float) -> float:
    return min(max((width_of(n[:200]) for n in names), default=0) + 14, width * 0.3)


def _finite(rows: Sequence[Sequence[float]]) -> list[float]:
    return [v for row in rows for v in map(number, row) if v is not None]


def _range(row: Sequence[float]) -> str:
    values = _finite([row])
    return f"{min(values):.3f} to {max(values):.3f}, mean {fmean(values):.3f}"

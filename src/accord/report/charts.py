"""Consistency by kind of wording, and agreement of the retriever, as dots on a line."""

from collections.abc import Iterator, Mapping, Sequence
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
    tooltip,
    width_of,
)

_ROW, _HEAD = 22, 38


class Dot(NamedTuple):
    """RS of one model on one kind of wording."""

    model: str
    kind: str
    value: float
    ends: tuple[float, float] | None
    pairs: int | None


def dots_of(scores: Mapping[str, Any] | None, names: Sequence[str]) -> list[Dot]:
    """RS by kind for each of `names`, as far as the scores hold it."""
    models = (scores or {}).get("models")
    dots = []
    for name in names:
        model = models.get(name) if isinstance(models, Mapping) else None
        kinds = model.get("by_type") if isinstance(model, Mapping) else None
        for kind, found in (kinds or {}).items():
            entry = found if isinstance(found, Mapping) else {"rs": found}
            value, pairs = number(entry.get("rs")), number(entry.get("pairs"))
            if value is not None:
                count = None if pairs is None else int(pairs)
                dots.append(Dot(name, str(kind), value, interval(entry, "rs"), count))
    return dots


def by_kind(dots: Sequence[Dot], roles: Mapping[str, str], width: int = 680) -> str:
    """A panel for each kind of wording, a line for each model; all panels share the axis."""
    if not dots:
        return ""
    names, kinds = _unique([d.model for d in dots]), _unique([d.kind for d in dots])
    key, top = legend(roles, names, width)
    left = min(max(width_of(n[:200]) for n in names) + 14, width * 0.28)
    columns = min(len(kinds), max(1, int((width - left) // 135)))
    tall = _HEAD + len(names) * _ROW + 30
    step = (width - left) / columns
    highest = max(max(d.ends[1] if d.ends else 0, d.value) for d in dots)
    parts = list(key)
    for i, kind in enumerate(kinds):
        x0, y0 = left + (i % columns) * step, top + (i // columns) * tall
        x = Scale(0, min(1.0, highest * 1.05) or 1.0, x0 + 10, x0 + step - 20)
        chosen = {d.model: d for d in dots if d.kind == kind}
        parts += _panel(kind, [chosen.get(n) for n in names], x, y0, roles)
        if i % columns == 0:
            parts += _names(names, left, y0)
    height = top + tall * -(-len(kinds) // columns)
    desc = " ".join(f"{d.model}, {d.kind}: {d.value:.3f}." for d in dots)
    title = "Consistency (RS) of each model by kind of wording"
    return svg(f"kinds-{width}", (width, height), title, desc, parts)


def _names(names: Sequence[str], left: float, top: float) -> Iterator[str]:
    for i, name in enumerate(names):
        y = top + _HEAD + (i + 0.5) * _ROW + 4
        yield text(left - 8, y, shorten(name, left - 10), text_anchor="end")


def _panel(
    kind: str, dots: Sequence[Dot | None], x: Scale, top: float, roles: Mapping[str, str]
) -> Iterator[str]:
    room = x.end - x.start + 8
    pairs = next((d.pairs for d in dots if d and d.pairs is not None), None)
    label = shorten(kind.replace("_", " "), room + 6, SMALL)
    yield text(x.start - 4, top + 12, label, "ink strong", font_size=SMALL)
    if pairs is not None:
        some = f"{pairs:,} pair{'' if pairs == 1 else 's'}"
        yield text(x.start - 4, top + 26, some, "muted", font_size=SMALL)
    bottom = top + _HEAD + len(dots) * _ROW
    values = ticks(x.lo, x.hi, max(2, int(room // 28)))
    for value in values:
        yield line(x(value), top + _HEAD - 4, x(value), bottom, "grid")
        tick = tick_label(value, values)
        yield text(x(value), bottom + 14, tick, "muted", text_anchor="middle", font_size=SMALL)
    for i, dot in enumerate(dots):
        if dot is not None:
            yield from _dot(dot, x, top + _HEAD + (i + 0.5) * _ROW, roles)


def _dot(dot: Dot, x: Scale, y: float, roles: Mapping[str, str]) -> Iterator[str]:
    if dot.ends:
        yield line(x(dot.ends[0]), y, x(dot.ends[1]), y, "cross")
    hover = f"{dot.model}, {dot.kind}: RS {dot.value:.3f}"
    yield mark(roles.get(dot.model, "other"), x(dot.value), y, hover)


def retrieval_chart(found: Mapping[str, Any] | None, width: int = 680) -> str:
    """Per kind of wording: share with the original's first passage, and mean overlap."""
    rows = _retrieval_rows(found or {})
    if not rows:
        return ""
    left = min(max(width_of(label) for label, _, _ in rows) + 14, width * 0.42)
    x = Scale(0, 1, left, width - 92)
    parts = [
        tag("circle", cx=14.0, cy=8.0, r=5.0, class_="mark first"),
        text(26, 12, "same first passage", "muted"),
        tag("path", d="M168 2l6 6-6 6-6-6z", class_="mark overlap"),
        text(180, 12, "overlap (Jaccard)", "muted"),
    ]
    bottom = 28 + len(rows) * 26
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(line(x(value), 26, x(value), bottom, "grid"))
        label = f"{value:g}"
        parts.append(
            text(x(value), bottom + 15, label, "muted", text_anchor="middle", font_size=SMALL)
        )
    for i, row in enumerate(rows):
        parts += _retrieval_row(row, x, 28 + (i + 0.5) * 26, width)
    desc = " ".join(
        f"{n}: same first passage {_fixed(a)}, overlap {_fixed(b)}." for n, a, b in rows
    )
    title = "Agreement of the retrieved passages with those of the original wording"
    return svg(f"retrieval-{width}", (width, bottom + 24), title, desc, parts)


def _retrieval_rows(found: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    kinds = found.get("by_type")
    entries = list(kinds.items()) if isinstance(kinds, Mapping) else []
    rows = []
    for kind, entry in [*entries, ("all wordings", found)]:
        if isinstance(entry, Mapping):
            first, overlap = number(entry.get("same_first")), number(entry.get("jaccard"))
            if first is not None or overlap is not None:
                rows.append((str(kind).replace("_", " ")[:200], first, overlap))
    return rows


def _retrieval_row(
    row: tuple[str, float | None, float | None], x: Scale, y: float, width: float
) -> Iterator[str]:
    name, first, overlap = row
    strong = "ink strong" if name == "all wordings" else "ink"
    yield text(x.start - 10, y + 4, shorten(name, x.start - 12), strong, text_anchor="end")
    ends = [v for v in (first, overlap) if v is not None]
    yield line(x(min(ends)), y, x(max(ends)), y, "cross")
    if overlap is not None:
        at = f"M{x(overlap):.1f} {y - 6:.1f}l6 6-6 6-6-6z"
        yield tag("path", tooltip(f"{name}: {overlap:.3f}"), d=at, class_="mark overlap")
    if first is not None:
        hover = tooltip(f"{name}: {first:.3f}")
        yield tag("circle", hover, cx=x(first), cy=float(y), r=5.0, class_="mark first")
    numbers = f"{_fixed(first)} · {_fixed(overlap)}"
    yield text(width - 2, y + 4, numbers, "muted", text_anchor="end", font_size=SMALL)


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _unique(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))

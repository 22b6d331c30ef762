"""From a report's content to one self-contained HTML page.

Everything shown is somebody's data: the template escapes all of it, and only our own SVG, which
escapes for itself, is marked as safe.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from accord.report import charts, curve, layers
from accord.report.caveats import caveats_view
from accord.report.content import ReportContent
from accord.report.differences import differences_view, focus_of, seeds_view
from accord.report.disagreements import cut, examples_view
from accord.report.grid import mapping, plural
from accord.report.origin_chart import chart
from accord.report.origins import kinds_left_out, left_out, origins_view, retrieval_view
from accord.report.parts import parts_view
from accord.report.plane import pareto, plane, points_of
from accord.report.roles import roles_of
from accord.report.svg import clean, number
from accord.report.tables import (
    ENOUGH,
    detectable,
    pairs_of,
    question_count,
    rows_of,
    table_view,
)
from accord.report.weights import weights_view

WIDE, NARROW = 720, 340


def render(content: ReportContent) -> str:
    """The whole page. The same content gives the same bytes."""
    return clean(_template().render(style=Markup(_resource("page.css")), **_view(content)))


@cache
def _template() -> Template:
    environment = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("page.html.jinja"))


def _resource(name: str) -> str:
    return resources.files("accord.report").joinpath(name).read_text(encoding="utf-8")


def _view(content: ReportContent) -> dict[str, Any]:
    rows = rows_of(content.table)
    size = question_count(content.table, content.counts)
    return {
        "title": cut(content.title, 200) or "A run without a title",
        "size": _size(size, rows),
        "questions": size,
        "small": size is None or size < ENOUGH,
        "enough": ENOUGH,
        "detectable": detectable(content.table),
        "notes": [cut(note) for note in content.notes or ()],
        "config": _config(content.config),
        "signatures": _signatures(content),
        "timings": _timings(content.timings),
        **_measures(content, rows),
        **_charts(content, rows),
        **_weights(content),
        **_counts(content.counts),
    }


def _measures(content: ReportContent, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What the table says of the rows, of their parts and of what differs."""
    against, focus = differences_view(content.table), focus_of(content.table)
    in_focus = next((row for row in rows if row.get("name") == focus), rows[0] if rows else None)
    return {
        "table": table_view(rows, compared=against is not None) if rows else None,
        "caveats": caveats_view(content.table, rows),
        "differences": against,
        "seeds": seeds_view(rows),
        "parts": parts_view(rows, mapping(mapping(content.table).get("signatures")).get("trained")),
        "examples": examples_view(content.examples, in_focus),
        **_curve(content, rows, focus),
        **_origins(rows, focus),
    }


def _curve(
    content: ReportContent, rows: list[Mapping[str, Any]], focus: str | None
) -> dict[str, Any]:
    curves = curve.curves_of(rows)
    lines = curve.shown(curves, focus)
    roles = _roles(content, _names(content, rows))
    threshold = _threshold(content)
    T = number(threshold)
    return {
        "threshold": threshold,
        "curve": _both(lambda width: curve.chart(lines, roles, T, focus, width)),
        "curve_pairs": pairs_of(rows),
        "leaders": curve.leaders(curves, T),
        "curves_left": [c.name for c in curves if c not in lines],
    }


def _threshold(content: ReportContent) -> Any:
    """T as it was scored with; the config of a run where the table does not say."""
    scored = mapping(mapping(content.table).get("signatures")).get("T")
    return _option(content.config, "evaluate", "T") if scored is None else scored


def _charts(content: ReportContent, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    names = _names(content, rows)
    roles = _roles(content, names)
    drawn = {p.name for p in points_of(rows)}
    dots = charts.dots_of(content.scores, names)
    return {
        "plane": _both(lambda width: plane(rows, roles, width)),
        "front": [p.name for p in pareto(points_of(rows))] if len(drawn) > 1 else [],
        "not_drawn": [name for name in names if name not in drawn],
        "kinds": _both(lambda width: charts.by_kind(dots, roles, width)),
    }


def _origins(rows: list[Mapping[str, Any]], focus: str | None) -> dict[str, Any]:
    """Where the inconsistency comes from, and how steady the retriever is."""
    found, steady = origins_view(rows, focus), retrieval_view(rows, focus)

    def bars(which: str) -> Markup:
        return _both(lambda width: chart(f"origin-{which}", found[which], found["metric"], width))

    return {
        "origins": {**found, "rows": bars("rows"), "kinds": bars("kinds")},
        "origins_left_out": left_out(rows),
        "kinds_left_out": kinds_left_out(rows),
        "retrieval": {
            **steady,
            "chart": _both(lambda width: charts.retrieval_chart(steady["chart"], width)),
        },
    }


def _names(content: ReportContent, rows: list[Mapping[str, Any]]) -> list[str]:
    known = mapping((content.scores or {}).get("models"))
    return [str(row.get("name")) for row in rows] or [str(name) for name in known]


def _roles(content: ReportContent, names: list[str]) -> dict[str, str]:
    made = content.layer_weights
    trained = _option(content.config, "train", "specialists") or ()
    return roles_of(names, [*(made.models if made else ()), *map(str, trained)])


def _both(draw: Callable[[int], str]) -> Markup:
    """A chart for wide and one for narrow screens; the style sheet shows one of them."""
    wide, narrow = draw(WIDE), draw(NARROW)
    if not wide:
        return Markup("")
    return Markup(f'<div class="wide scroll">{wide}</div><div class="narrow scroll">{narrow}</div>')


def _weights(content: ReportContent) -> dict[str, Any]:
    made = content.layer_weights
    settings = [
        (f"{section}: {key}".replace("_", " "), _plain(value))
        for section in ("weigh", "merge")
        for key, value in (_section(content.config, section)).items()
    ]
    if made is None or not made.models:
        return {"weights": None, "heatmap": "", "distances": "", "settings": settings}
    return {
        "weights": weights_view(made),
        "heatmap": _both(lambda width: layers.heatmap(made, width)),
        "distances": _both(lambda width: layers.distances(made, width)),
        "settings": settings,
    }


def _size(questions: int | None, rows: list[Mapping[str, Any]]) -> list[str]:
    parts = [plural(questions, "test question")] if questions else []
    parts += [f"{pairs} of wordings"] if (pairs := pairs_of(rows)) else []
    return parts + ([plural(len(rows), "model")] if rows else [])


def _counts(counts: Mapping[str, Any] | None) -> dict[str, Any]:
    found = counts or {}
    wordings = {s: _numbers(k) for s, k in mapping(found.get("wordings")).items()}
    kinds = list(dict.fromkeys(k for row in wordings.values() for k in row))
    questions = _numbers(found.get("questions"))
    splits = list(dict.fromkeys([*questions, *wordings]))
    skipped = []
    for kind, reasons in mapping(found.get("skipped")).items():
        # {reason: n} is read as well as {type: {reason: n}}
        several = _numbers(reasons) if isinstance(reasons, Mapping) else _numbers({"-": reasons})
        skipped += [(cut(kind, 200), cut(reason, 200), n) for reason, n in several.items()]
    return {
        "kinds_of_wording": [k.replace("_", " ") for k in kinds],
        "splits": [
            (s, [questions.get(s, "-"), *(wordings.get(s, {}).get(k, "-") for k in kinds)])
            for s in splits
        ],
        "skipped": skipped,
    }


def _numbers(value: object) -> dict[str, str]:
    known = {str(key): number(n) for key, n in mapping(value).items()}
    return {key: f"{int(n):,}" for key, n in known.items() if n is not None}


def _section(config: Mapping[str, Any] | None, section: str) -> Mapping[str, Any]:
    return mapping((config or {}).get(section))


def _option(config: Mapping[str, Any] | None, section: str, name: str) -> Any:
    return _section(config, section).get(name)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _config(config: Mapping[str, Any] | None) -> str:
    if not config:
        return ""
    plain = json.loads(json.dumps(config, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=88)


def _signatures(content: ReportContent) -> list[tuple[str, str]]:
    found = {
        **mapping((content.scores or {}).get("signatures")),
        **mapping((content.table or {}).get("signatures")),
    }
    return [(str(name), _plain(value)) for name, value in found.items()]


def _timings(timings: Mapping[str, float] | None) -> list[tuple[str, str]]:
    known = {k: s for k, v in (timings or {}).items() if (s := number(v)) is not None}
    if len(known) > 1:
        known["all together"] = sum(known.values())
    return [(stage, _duration(seconds)) for stage, seconds in known.items()]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"

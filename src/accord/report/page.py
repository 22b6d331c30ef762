"""From a report's content to one self-contained HTML page.

Everything shown is somebody's data: the template escapes all of it, and only our own SVG, which
escapes for itself, is marked as safe.
"""

import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from accord.report import charts, layers
from accord.report.content import ReportContent
from accord.report.disagreements import cut, examples_view
from accord.report.plane import plane, points_of
from accord.report.roles import roles_of
from accord.report.svg import clean, number
from accord.report.tables import (
    ENOUGH,
    attribution,
    detectable,
    question_count,
    rows_of,
    table_view,
)
from accord.report.weights import weights_view

WIDE, NARROW = 720, 340


def render(content: ReportContent) -> str:
    """The whole page. The same content gives the same bytes."""
    environment = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_resource("page.html.jinja"))
    return clean(template.render(style=Markup(_resource("page.css")), **_view(content)))


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
        "table": table_view(rows) if rows else None,
        "threshold": _option(content.config, "evaluate", "T"),
        "attribution": attribution(content.scores),
        "examples": examples_view(content.examples),
        "config": _config(content.config),
        "signatures": _signatures(content),
        "timings": _timings(content.timings),
        **_charts(content, rows),
        **_weights(content),
        **_counts(content.counts),
    }


def _charts(content: ReportContent, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    names = [str(row.get("name")) for row in rows]
    known = (content.scores or {}).get("models")
    names = names or [str(name) for name in known or ()]
    made = content.layer_weights
    trained = _option(content.config, "train", "specialists") or ()
    roles = roles_of(names, [*(made.models if made else ()), *map(str, trained)])
    drawn = {p.name for p in points_of(rows)}
    dots = charts.dots_of(content.scores, names)
    return {
        "plane": _both(lambda width: plane(rows, roles, width)),
        "not_drawn": [name for name in names if name not in drawn],
        "kinds": _both(lambda width: charts.by_kind(dots, roles, width)),
        "retrieval": _both(lambda width: charts.retrieval_chart(content.retrieval, width)),
        "retrieval_size": _retrieval_size(content.retrieval),
    }


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
    pairs = [int(n) for row in rows if (n := number(row.get("pairs"))) is not None]
    parts = [f"{questions:,} test question{'' if questions == 1 else 's'}"] if questions else []
    if pairs:
        least, most = min(pairs), max(pairs)
        some = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        parts.append(f"{some} pair{'' if most == 1 else 's'} of wordings")
    if rows:
        parts.append(f"{len(rows)} model{'' if len(rows) == 1 else 's'}")
    return parts


def _retrieval_size(found: Mapping[str, Any] | None) -> list[str]:
    k, wordings = (number((found or {}).get(key)) for key in ("k", "wordings"))
    parts = [] if wordings is None else [f"{int(wordings):,} wordings compared with their original"]
    return parts + ([] if k is None else [f"{int(k)} passages each"])


def _counts(counts: Mapping[str, Any] | None) -> dict[str, Any]:
    found = counts or {}
    wordings = {s: _numbers(k) for s, k in _mapping(found.get("wordings")).items()}
    kinds = list(dict.fromkeys(k for row in wordings.values() for k in row))
    questions = _numbers(found.get("questions"))
    splits = list(dict.fromkeys([*questions, *wordings]))
    skipped = []
    for kind, reasons in _mapping(found.get("skipped")).items():
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
    known = {str(key): number(n) for key, n in _mapping(value).items()}
    return {key: f"{int(n):,}" for key, n in known.items() if n is not None}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _section(config: Mapping[str, Any] | None, section: str) -> Mapping[str, Any]:
    return _mapping((config or {}).get(section))


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
        **_mapping((content.scores or {}).get("signatures")),
        **_mapping((content.table or {}).get("signatures")),
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

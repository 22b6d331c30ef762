"""A model as judge: do two answers to one question say the same?

Judges favour a position (Zheng et al. 2023, "Judging LLM-as-a-judge", section 3.3), so each pair
is asked in both orders, and the report says how often the judge agrees with itself, and with
people where they labelled pairs. A reply that is no verdict is never guessed at.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import NDArray

from accord.errors import InputError
from accord.evaluate import statistics
from accord.models import verdict
from accord.models.endpoint import Endpoint, Reply
from accord.models.template import FAILURES
from accord.progress import SILENT, Progress
from accord.records import Labelled

Floats = NDArray[np.float64]

RESAMPLES = 2000


class Pair(NamedTuple):
    """Two answers to one question, `a` <= `b`: which came first is no part of it."""

    query: str
    a: str
    b: str


@dataclass(frozen=True)
class Judged:
    """Scores (N,): 0, .5 or 1, NaN where unscored; and what the file SCORES says of the judge."""

    scores: Floats
    report: dict[str, Any]


@dataclass(frozen=True)
class Rubric:
    """What the judge is asked: a jinja2 template of `question`, `a` and `b`."""

    name: str
    sha256: str
    template: Template = field(repr=False)

    def render(self, query: str, a: str, b: str) -> str:
        """The prompt for one order. Raises InputError if the template fails."""
        try:
            return self.template.render(question=query, a=a, b=b)
        except FAILURES as error:
            raise InputError(f"rubric {self.name}: cannot be rendered: {error}") from None


def load_rubric(path: Path | None = None) -> Rubric:
    """The built-in rubric or one in a file.

    Raises InputError if the file cannot be read, is no template, or leaves out an answer.
    """
    try:
        raw = _built_in() if path is None else path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the rubric cannot be read: {error}") from None
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    try:
        used = meta.find_undeclared_variables(environment.parse(text))
        template = environment.from_string(text)
    except TemplateError as error:
        raise InputError(f"{path}: not a valid jinja2 template: {error}") from None
    for name in ("a", "b"):
        if name not in used:
            raise InputError(f"{path}: the rubric does not show the answer `{{{{ {name} }}}}`")
    name = "built-in" if path is None else path.name
    return Rubric(name, hashlib.sha256(raw).hexdigest(), template)


def _built_in() -> bytes:
    return resources.files("accord.evaluate").joinpath("rubric.jinja").read_bytes()


def judge(
    first: Sequence[str],
    second: Sequence[str],
    queries: Sequence[str],
    *,
    endpoint: Endpoint,
    rubric: Path | None = None,
    groups: Sequence[str],
    seed: int = 0,
    progress: Progress = SILENT,
) -> Judged:
    """Whether answers (N) to questions (N) say the same, by a model behind an endpoint.

    Each distinct pair is asked in both orders; its score is the mean of the two verdicts, and
    unscored (NaN) if either is missing. Equal texts are not asked and score 1. `groups` (N) names
    the original question, the unit of the intervals. The result does not depend on the order of
    the pairs. Raises what `Endpoint.ask_all` raises, and InputError for a bad rubric.
    """
    rules = load_rubric(rubric)
    pairs = [
        Pair(query, *sorted((a, b))) for a, b, query in zip(first, second, queries, strict=True)
    ]
    asked = sorted({pair for pair in pairs if pair.a != pair.b})
    replies = _ask(asked, rules, endpoint, seed, progress)
    verdicts = {pair: _verdicts(own) for pair, own in replies.items()}
    scores = [1.0 if pair.a == pair.b else float(verdicts[pair].mean()) for pair in pairs]
    # The wordings of a question and the models may share a pair: it is one observation.
    seen = sorted({(g, p) for g, p in zip(groups, pairs, strict=True) if p.a != p.b})
    rows = np.array([verdicts[pair] for _, pair in seen]).reshape(-1, 2)
    report = {
        "model": endpoint.model,
        "endpoint": endpoint.base_url,
        "temperature": endpoint.temperature,
        "seed": seed,
        "rubric": {"name": rules.name, "sha256": rules.sha256},
        "pairs": len(pairs),
        "equal": sum(pair.a == pair.b for pair in pairs),
        **_counts(replies),
        "self_agreement": self_agreement(rows, [group for group, _ in seen], seed),
        "labels": None,
    }
    return Judged(np.array(scores, dtype=np.float64), report)


def against_labels(
    labelled: Sequence[Labelled],
    *,
    endpoint: Endpoint,
    rubric: Path | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """How far the judge agrees with people, for `labels` of the report.

    It calls a pair equivalent if both orders do (score > .5; Zheng et al. 2023, section 3.4).
    Pairs without a `group` stand alone. Unscored pairs are counted and left out.
    """
    groups = [f"\0{i}" if x.group is None else x.group for i, x in enumerate(labelled)]
    judged = judge(
        [x.a for x in labelled],
        [x.b for x in labelled],
        [x.query or "" for x in labelled],
        endpoint=endpoint,
        rubric=rubric,
        groups=groups,
        seed=seed,
        progress=progress,
    )
    scored = np.flatnonzero(~np.isnan(judged.scores)).tolist()
    said = judged.scores[scored] > 0.5
    true = np.array([x.equivalent for x in labelled], dtype=bool)[scored]
    kept = ("pairs", "equal", "asked", "from_cache", "unscored", "self_agreement")
    return {
        **agreement(said, true, [groups[i] for i in scored], seed),
        **{name: judged.report[name] for name in kept},
    }


def parse_verdict(reply: str) -> bool | None:
    """`equivalent` of a reply that is one JSON object, alone or in one code fence; else None."""
    return verdict.read_verdict(reply, "equivalent")


def _ask(
    pairs: Sequence[Pair], rubric: Rubric, endpoint: Endpoint, seed: int, progress: Progress
) -> dict[Pair, list[Reply]]:
    """The replies to (a, b) and to (b, a) of each pair."""
    prompts = [rubric.render(query, *order) for query, a, b in pairs for order in ((a, b), (b, a))]
    progress.start(len(prompts), "verdicts")
    replies = []
    for reply in endpoint.ask_all(prompts, seed=seed, accept=_is_verdict):
        replies.append(reply)
        progress.advance()
    return {pair: replies[2 * i : 2 * i + 2] for i, pair in enumerate(pairs)}


def _is_verdict(text: str) -> bool:
    return parse_verdict(text) is not None


def _verdicts(replies: Sequence[Reply]) -> Floats:
    """Verdicts (2,) of the two orders: 0 or 1, NaN where there is none."""
    said = [None if reply.text is None else parse_verdict(reply.text) for reply in replies]
    return np.array([np.nan if verdict is None else verdict for verdict in said], np.float64)


def _counts(replies: dict[Pair, list[Reply]]) -> dict[str, Any]:
    """Orders asked and known, and pairs unscored by the reason of their first missing verdict."""
    every = [reply for own in replies.values() for reply in own]
    reasons = [[reply.reason for reply in own if reply.text is None] for own in replies.values()]
    missing = Counter(own[0] for own in reasons if own)
    return {
        "distinct": len(replies),
        "asked": sum(not reply.cached for reply in every),
        "from_cache": sum(reply.cached for reply in every),
        "unscored": dict(sorted(missing.items())),
    }


def self_agreement(verdicts: Floats, groups: Sequence[str], seed: int) -> dict[str, Any]:
    """Agreement of the two orders of each pair; `verdicts` (M, 2), pairs with a NaN left out."""
    whole = np.flatnonzero(~np.isnan(verdicts).any(axis=1)).tolist()
    one, two = (verdicts[whole] > 0.5).T
    # Which order is the first means nothing: each pair counts as both.
    table = _table(np.concatenate([one, two]), np.concatenate([two, one]))
    same = (one == two).astype(np.float64)
    return {**_share(same, [groups[i] for i in whole], seed), "kappa": kappa(table)}


def agreement(
    said: NDArray[np.bool_], true: NDArray[np.bool_], groups: Sequence[str], seed: int
) -> dict[str, Any]:
    """Agreement of verdicts (M,) with labels (M,), and its confusion counts; null if undefined."""
    table = _table(said, true)
    (tn, fn), (fp, tp) = table.tolist()
    one_class = len(set(true.tolist())) < 2
    report = {
        **_share((said == true).astype(np.float64), groups, seed),
        "kappa": None if one_class else kappa(table),
        "precision": tp / (tp + fp) if tp + fp else None,
        "recall": tp / (tp + fn) if tp + fn else None,
        "confusion": {"tp": tp, "fp": fp, "fn": fn, "tn": tn},
    }
    if one_class:
        report["note"] = "kappa needs labels of both classes"
    return report


def _table(rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Counts (2, 2): how often the first says i and the second j."""
    return np.bincount(2 * rows + columns.astype(np.intp), minlength=4).reshape(2, 2)


def kappa(table: NDArray[np.intp]) -> float | None:
    """Cohen's kappa (1960) of counts (2, 2); None where chance alone agrees always, or n = 0."""
    total = table.sum()
    if total == 0:
        return None
    chance = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return None if chance == 1 else float((np.trace(table) / total - chance) / (1 - chance))


def _share(same: Floats, groups: Sequence[str], seed: int) -> dict[str, Any]:
    """The mean of `same` (M,) and its 95 % interval, groups drawn whole; null if M = 0."""
    if not len(same):
        return {"n": 0, "groups": 0, "agreement": None, "ci": None}
    _, cluster = np.unique(groups, return_inverse=True)
    sums = np.column_stack([np.bincount(cluster, same), np.bincount(cluster)]).astype(np.float64)
    drawn = statistics.bootstrap(sums, statistics.ratio, resamples=RESAMPLES, seed=seed)
    share, interval = drawn.value(0), drawn.interval(0)
    return {"n": len(same), "groups": len(sums), "agreement": share, "ci": interval}

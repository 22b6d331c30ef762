"""Answers to SCORES, with a judge and a gate where they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accord.evaluate import judge
from accord.evaluate.metrics import Floats
from accord.evaluate.stage import evaluate
from accord.evaluate.verdict import Verdict
from accord.measure.gating import Gate, Gatekeeper
from accord.measure.sources import Measures, read_sources
from accord.models.endpoint import Endpoint
from accord.progress import SILENT, Progress
from accord.records import Labelled, read_records, write_json


@dataclass(frozen=True)
class Judging:
    """The endpoint of `--judge` and what is asked of it."""

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    rubric: Path | None = None
    labels: Path | None = None
    concurrency: int = 8
    cache: Path | None = None


def evaluate_files(
    answers: Sequence[Path],
    references: Sequence[Path],
    out: Path,
    measures: Measures,
    *,
    focus: str | None = None,
    calibration: Mapping[str, Any] | None = None,
    judging: Judging | None = None,
    gate: Gate | None = None,
    progress: Progress = SILENT,
) -> tuple[dict[str, Any], Verdict | None]:
    """Score files of answers and write SCORES, and the verdict's files where there is a gate.

    What can be wrong with a gate is found before the work starts.
    """
    keeper = Gatekeeper(gate, measures) if gate else None
    sources = read_sources(answers, references)
    measures = replace(measures, trained=measures.trained or sources.trained)
    if keeper:
        keeper.prepare(sources, references)
    report: dict[str, Any] = {}
    resources = measures.resources
    if judging is not None:
        resources = replace(resources, judge=_judge(judging, measures.seed, report, progress))
    scores = evaluate(
        sources.files,
        sources.references,
        T=measures.T,
        accuracy=measures.accuracy,
        consistency=measures.consistency,
        resources=resources,
        trained=measures.trained,
        gold=sources.gold,
        focus=focus,
        resamples=measures.resamples,
        seed=measures.seed,
    )
    scores |= {"judge": report} if report else {}
    scores |= {"calibration": dict(calibration)} if calibration else {}
    verdict = keeper.decide(scores) if keeper else None
    write_json(out, scores)
    if keeper and verdict:
        keeper.write(verdict, scores, out)
    return scores, verdict


def _judge(
    judging: Judging, seed: int, report: dict[str, Any], progress: Progress
) -> Callable[..., Floats]:
    """The judge as the metrics call it; what it says of itself goes into `report`."""
    endpoint = Endpoint(
        judging.base_url,
        judging.model,
        judging.api_key_env,
        concurrency=judging.concurrency,
        cache=judging.cache,
        where="--judge",
        purpose="a judge",
    )
    rubric, labels = judging.rubric, judging.labels
    labelled = read_records(labels, Labelled) if labels else []

    def scores(
        first: Sequence[str], second: Sequence[str], queries: Sequence[str], groups: Sequence[str]
    ) -> Floats:
        judged = judge.judge(
            first,
            second,
            queries,
            endpoint=endpoint,
            rubric=rubric,
            groups=groups,
            seed=seed,
            progress=progress,
        )
        report.update(judged.report)
        if labelled:
            report["labels"] = judge.against_labels(
                labelled, endpoint=endpoint, rubric=rubric, seed=seed, progress=progress
            )
        return judged.scores

    return scores

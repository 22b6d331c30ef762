"""What the report page tells of a run, gathered from its files."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from accord.config import Config
from accord.evaluate.answers import CONTEXTS, REPEAT
from accord.evaluate.metrics import rouge_l
from accord.records import Answer, LayerWeights, Skipped, Wording, read_records
from accord.report.stage import AskedWording, Example, ReportContent
from accord.runs import Run


def page_content(config: Config, run: Run) -> ReportContent:
    """Everything the page shows, from the run folder alone."""
    asked = read_records(run.stage("vary") / "wordings.jsonl", Wording)
    answers = read_records(run.stage("generate") / "answers.jsonl", Answer)
    test = [w for w in asked if w.split == "test"]
    return ReportContent(
        title=config.report.title or run.folder.name,
        table=_json(run.stage("evaluate") / "table.json"),
        scores=_json(run.stage("evaluate") / "scores.json"),
        layer_weights=LayerWeights.model_validate(_json(run.stage("weigh") / "layer_weights.json")),
        config=config.model_dump(mode="json"),
        counts=_counts(run, asked),
        examples=_examples(test, answers, config.evaluate.T),
        timings=_timings(run),
        notes=_notes(run),
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _counts(run: Run, asked: Sequence[Wording]) -> dict[str, Any]:
    skipped = read_records(run.stage("vary") / "variations.skipped.jsonl", Skipped)
    by_split: dict[str, Counter[str]] = {}
    for w in asked:
        by_split.setdefault(w.split, Counter())[w.type or "original"] += 1
    reasons: dict[str, Counter[str]] = {}
    for s in skipped:
        reasons.setdefault(s.type, Counter())[s.reason] += 1
    return {
        "questions": {split: counter["original"] for split, counter in by_split.items()},
        "wordings": {split: dict(counter) for split, counter in by_split.items()},
        "skipped": {kind: dict(counter) for kind, counter in reasons.items()},
    }


def _examples(test: Sequence[Wording], answers: Sequence[Answer], T: float) -> list[Example]:
    said: dict[str, dict[str, str]] = {}
    passages: dict[str, Sequence[str]] = {}
    for a in (a for a in answers if (a.contexts, a.repeat) == (CONTEXTS, REPEAT)):
        said.setdefault(a.id, {})[a.model] = a.answer
        passages[a.id] = a.passages
    groups: dict[str, list[Wording]] = {}
    for w in test:
        groups.setdefault(w.original_id, []).append(w)
    return [
        Example(
            id=name,
            wordings=[
                AskedWording(w.id, w.query, w.type, passages.get(w.id, ()), said.get(w.id, {}))
                for w in group
            ],
            reference=group[0].answer,
            agreement=_agreement([said.get(w.id, {}) for w in group], T),
        )
        for name, group in groups.items()
    ]


def _agreement(answers: Sequence[Mapping[str, str]], T: float) -> float | None:
    """The share of (original, variation) pairs with ROUGE-L above T, over all models."""
    original, *others = answers
    pairs = [(original[m], o[m]) for o in others for m in original if m in o]
    if not pairs:
        return None
    scores = rouge_l([a for a, _ in pairs], [b for _, b in pairs])
    return float((scores > T).mean())


def _timings(run: Run) -> dict[str, float]:
    """Seconds of each stage when it was last done."""
    found: dict[str, float] = {}
    events = run.folder / "events.jsonl"
    for line in events.read_text("utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # half a line of a run that was killed
            entry = json.loads(line)
            if entry["event"] == "done":
                found[entry["stage"]] = entry["seconds"]
    return found


def _notes(run: Run) -> list[str]:
    """What the stages had to say, in their order."""
    stages = ("vary", "retrieve", "train", "weigh", "merge", "generate", "evaluate")
    manifests = [run.manifest(stage) or {} for stage in stages]
    return [note for manifest in manifests for note in manifest.get("notes", [])]

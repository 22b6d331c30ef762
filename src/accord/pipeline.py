"""A run as a story: vary -> retrieve -> train -> weigh -> merge -> generate -> evaluate -> report.

Each stage is one entry of STAGES: the function that does it, the part of the config it depends
on, the stages and inputs it reads. From those follows its key, and from the key whether the work of
an earlier run can be kept.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from accord import __version__
from accord.config import STAGES as STAGE_NAMES
from accord.config import Config
from accord.data import Dataset, keep_apart, load_dataset, wordings
from accord.errors import InputError
from accord.evaluate.stage import evaluate
from accord.evaluate.table import table
from accord.generate.stage import generate
from accord.merge.stage import merge
from accord.models.encoder import Encoder
from accord.models.locate import locate, title
from accord.progress import SILENT, Progress
from accord.records import (
    Answer,
    Grounded,
    LayerWeights,
    Model,
    Passage,
    Split,
    Variation,
    Wording,
    explain,
    read_records,
    write_json,
    write_records,
    write_text,
)
from accord.report.stage import report
from accord.retrieve.stage import retrieve
from accord.runs import Run, hash_json
from accord.story import page_content
from accord.train.stage import train
from accord.vary.stage import vary
from accord.weigh.stage import weigh

Watch = Callable[[str], Progress]  # stage name -> its progress
Say = Callable[[str, str, float], None]  # stage name, what happened, seconds
Notes = Sequence[str]


class Work:
    """What the stages of one run share: its config, data, model folders, and finished files."""

    def __init__(self, config: Config, run: Run) -> None:
        self.config, self.run = config, run

    @cached_property
    def data(self) -> Dataset:
        """Questions with splits, passages, frozen variations."""
        return load_dataset(self.config.data, self.config.seed)

    @cached_property
    def base(self) -> Path:
        """The folder of the base model."""
        return locate(self.config.base, "base")

    @cached_property
    def encoder(self) -> Encoder:
        """The sentence encoder, loaded at first use."""
        return Encoder(locate(self.config.encoder, "encoder"))

    def wordings(self, *splits: Split) -> list[Wording]:
        """Everything asked in these splits, from the stage vary."""
        variations = read_records(self.run.stage("vary") / "variations.jsonl", Variation)
        asked = wordings(self.data.questions, variations, self.config.seed)
        return [w for w in asked if not splits or w.split in splits]

    def contexts(self) -> dict[str, list[Passage]]:
        """The passages of each wording by id, from the stage retrieve."""
        grounded = read_records(self.run.stage("retrieve") / "contexts.jsonl", Grounded)
        by_id = {p.id: p for p in self.data.passages}
        return {g.id: [by_id[ranked.id] for ranked in g.passages] for g in grounded}

    def models(self) -> dict[str, tuple[str, Path]]:
        """(role, folder) of every row of the table by name, in the order of the table."""
        trained = read_records(self.run.stage("train") / "models.jsonl", Model)
        rows = {"B": ("base", self.base)}
        rows |= {m.name: (m.role, self.run.folder / m.path) for m in trained}
        return rows | {"Merged": ("merged", self.run.stage("merge") / "model")}

    def specialists(self) -> dict[str, Path]:
        """Folders of the specialists by name."""
        return {n: folder for n, (role, folder) in self.models().items() if role == "specialist"}

    def fingerprint(self, name: str) -> str:
        """The content hash of an input that is not the output of a stage."""
        if name in {"base", "encoder"}:
            folder = self.base if name == "base" else self.encoder.folder
            return self.run.hash_folder(folder)
        if name == "template":
            path = self.config.prompt.template
            return self.run.hash_file(path) if path else ""
        records = {
            "questions": self.data.questions,
            "passages": self.data.passages,
            "variations": self.data.variations,
        }[name]
        return hash_json([r.model_dump(mode="json") for r in records])


def do_vary(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """Variations of the questions of every split."""
    settings = work.config.vary
    made, skipped = vary(
        work.data.questions,
        settings.components(),
        frozen=work.data.variations,
        max_per_question=settings.max_per_question,
        seed=work.config.seed,
        progress=progress,
    )
    made, crossing = keep_apart(work.data.questions, made)
    write_records(out / "variations.jsonl", made)
    write_records(out / "variations.skipped.jsonl", [*skipped, *crossing])
    write_records(out / "wordings.jsonl", wordings(work.data.questions, made, work.config.seed))
    return [f"{len(made)} variations of {len(work.data.questions)} questions"]


def do_retrieve(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """Passages for every wording."""
    settings = work.config.retrieve
    grounded = retrieve(
        work.wordings(),
        work.data.passages,
        retriever=settings.type,
        k=settings.k,
        options=settings.options,
        progress=progress,
    )
    write_records(out / "contexts.jsonl", grounded)
    empty = sum(not g.passages for g in grounded)
    return [f"{empty} wordings share no word with any passage and get none"] if empty else []


def do_train(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """SFT, SFT+TL, the specialists, ALL."""
    config = work.config
    models, notes = train(
        work.base,
        work.wordings("train"),
        work.contexts(),
        work.encoder,
        out,
        settings=config.train,
        prompt=config.prompt,
        reserve=config.generate.max_new_tokens,
        seed=config.seed,
        key=key,
        progress=progress,
    )
    write_records(out / "models.jsonl", models)
    return notes


def do_weigh(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """Layer weights from the first half of the development questions."""
    settings = work.config.weigh
    asked = [w for w in work.wordings("dev") if w.part == "fit"]
    if settings.queries == "originals_only":
        asked = [w for w in asked if w.type is None]
    weights, notes = weigh(
        work.specialists(),
        [w.query for w in asked],
        work.encoder,
        weighting=settings.type,
        similarity=settings.similarity,
        pool=settings.pool,
        options=settings.options,
        progress=progress,
    )
    write_json(out / "layer_weights.json", weights.model_dump(mode="json"))
    return notes


def do_merge(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """One model from the specialists."""
    settings = work.config.merge
    target = out / "model"
    if target.exists():  # complete, but killed before the manifest was written
        return []
    return merge(
        work.base,
        work.specialists(),
        read_weights(work.run.stage("weigh") / "layer_weights.json"),
        target,
        method=settings.method,
        options=settings.options,
        outside_layers=settings.outside_layers,
        seed=work.config.seed,
        progress=progress,
    )


def do_generate(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """Answers of every model to every test wording."""
    settings = work.config.generate
    answers, notes = generate(
        {name: folder for name, (_, folder) in work.models().items()},
        work.wordings("test"),
        work.contexts(),
        out,
        backend=settings.backend,
        options=settings.options,
        prompt=work.config.prompt,
        max_new_tokens=settings.max_new_tokens,
        key=key,
        progress=progress,
    )
    write_records(out / "answers.jsonl", answers)
    return notes


def do_evaluate(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """The five metrics with intervals, and the table."""
    progress.start(1, "table")
    scores = evaluate(
        read_records(work.run.stage("generate") / "answers.jsonl", Answer),
        {q.id: q.answer for q in work.data.questions},
        T=work.config.evaluate.T,
        resamples=work.config.evaluate.resamples,
        seed=work.config.seed,
        encode=work.encoder.encode,
        encoder_name=title(work.config.encoder),
    )
    write_json(out / "scores.json", scores)
    write_json(out / "table.json", table(scores, list(work.models())))
    progress.advance()
    return []


def do_report(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """The page."""
    progress.start(1, "page")
    report(page_content(work.config, work.run), out / "report.html")
    progress.advance()
    return []


@dataclass(frozen=True)
class Stage:
    """A stage: what does it, what of the config it depends on, and what it reads."""

    name: str
    do: Callable[[Work, Path, str, Progress], Notes]
    sections: tuple[str, ...]
    reads: tuple[str, ...]
    after: tuple[str, ...]


STAGES = (
    Stage("vary", do_vary, ("vary", "seed"), ("questions", "variations"), ()),
    Stage("retrieve", do_retrieve, ("retrieve",), ("passages",), ("vary",)),
    Stage(
        "train",
        do_train,
        ("train", "prompt", "seed", "generate.max_new_tokens"),
        ("base", "encoder", "template", "passages"),
        ("vary", "retrieve"),
    ),
    Stage("weigh", do_weigh, ("weigh",), ("encoder",), ("vary", "train")),
    Stage("merge", do_merge, ("merge", "seed"), ("base",), ("train", "weigh")),
    Stage(
        "generate",
        do_generate,
        ("generate", "prompt"),
        ("base", "template", "passages"),
        ("vary", "retrieve", "train", "merge"),
    ),
    Stage("evaluate", do_evaluate, ("evaluate", "seed"), ("questions", "encoder"), ("generate",)),
    Stage("report", do_report, ("report",), (), STAGE_NAMES[:-1]),
)


def run(
    config: Config,
    folder: Path,
    *,
    first: str = STAGE_NAMES[0],
    last: str = STAGE_NAMES[-1],
    force: str | None = None,
    watch: Watch = lambda stage: SILENT,
    say: Say = lambda stage, what, seconds: None,
) -> dict[str, Any] | None:
    """Run the stages from `first` to `last`, keeping those whose inputs have not changed.

    Stages before `first` must be complete and are taken as they are. `force` names a stage that
    is done again whatever its key. Returns the table, or None if `last` is before evaluate.
    """
    chosen = choose(first, last, force)
    with open_run(config, folder, first) as work:
        for stage in chosen:
            _advance(work, stage, stage.name == force, watch, say)
        publish(work.run)
        found = work.run.stage("evaluate") / "table.json"
        return read_table(found) if chosen[-1].name in {"evaluate", "report"} else None


def choose(first: str, last: str, force: str | None) -> tuple[Stage, ...]:
    """The stages from `first` to `last`; raises InputError if there are none, or not `force`."""
    chosen = STAGES[STAGE_NAMES.index(first) : STAGE_NAMES.index(last) + 1]
    if not chosen:
        raise InputError(f"--until {last}: comes before --from {first}; nothing would be done")
    if force is not None and force not in [stage.name for stage in chosen]:
        raise InputError(f"--force {force}: is not among the stages from {first} to {last}")
    return chosen


@contextmanager
def open_run(config: Config, folder: Path, first: str) -> Iterator[Work]:
    """Open a run folder to work from the stage `first` on; it is locked until the block ends."""
    opened = Run(folder)
    work = Work(config, opened)
    _ = work.data  # what is to be refused is refused before anything is written
    require_complete(opened, STAGE_NAMES[: STAGE_NAMES.index(first)], first)
    opened.open(config.model_dump(mode="json"))
    try:
        yield work
    finally:
        opened.close()


def _advance(work: Work, stage: Stage, force: bool, watch: Watch, say: Say) -> None:
    began = time.monotonic()
    run = work.run
    inputs = stage_inputs(work, stage)
    key = hash_json({"accord": __version__, "stage": stage.name, **inputs})
    if not force and run.is_fresh(stage.name, key):
        run.event(stage.name, "kept")
        say(stage.name, "kept", time.monotonic() - began)
        return
    run.event(stage.name, "began")
    say(stage.name, "began", 0.0)
    out = run.begin(stage.name, key, anew=force)
    with watch(stage.name) as progress:
        notes = stage.do(work, out, key, progress)
    seconds = time.monotonic() - began
    run.event(stage.name, "done", seconds=round(seconds, 3), notes=list(notes))
    run.finish(stage.name, key, inputs, notes=list(notes))
    for note in notes:
        say(stage.name, note, seconds)
    say(stage.name, "done", seconds)


def stage_inputs(work: Work, stage: Stage) -> dict[str, Any]:
    """Everything the result of a stage depends on, by name."""
    config = work.config.model_dump(mode="json")
    upstream = {name: work.run.manifest(name) for name in stage.after}
    return {
        "options": {section: _pick(config, section) for section in stage.sections},
        "reads": {name: work.fingerprint(name) for name in stage.reads},
        "after": {name: hash_json(m["outputs"]) if m else None for name, m in upstream.items()},
    }


def _pick(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        value = value[part]
    return value


def require_complete(run: Run, earlier: Sequence[str], wanted: str) -> None:
    """Raise InputError if a stage before `wanted` has not been done."""
    for name in earlier:
        if not run.is_intact(name):
            raise InputError(
                f"{run.folder}: {wanted} needs the stage {name}, which is not complete; "
                f"run `accord run` without --from, or with --from {name}"
            )


def plan(
    config: Config,
    folder: Path,
    *,
    first: str = STAGE_NAMES[0],
    last: str = STAGE_NAMES[-1],
    force: str | None = None,
) -> list[tuple[str, Literal["kept", "to do"]]]:
    """What a run would do: a stage after one that is to do is to do itself. Writes nothing."""
    chosen = choose(first, last, force)
    run = Run(folder)
    run.require_usable()
    work = Work(config, run)
    _ = work.data  # refused here as a run would refuse it
    require_complete(run, STAGE_NAMES[: STAGE_NAMES.index(first)], first)
    steps: list[tuple[str, Literal["kept", "to do"]]] = []
    waiting: set[str] = {force} if force else set()
    for stage in chosen:
        fresh = False
        if not waiting & {stage.name, *stage.after} and run.manifest(stage.name):
            inputs = stage_inputs(work, stage)
            key = hash_json({"accord": __version__, "stage": stage.name, **inputs})
            fresh = run.is_fresh(stage.name, key)
        if not fresh:
            waiting.add(stage.name)
        steps.append((stage.name, "kept" if fresh else "to do"))
    return steps


def publish(run: Run) -> None:
    """Put the table and the page at the top of the run folder."""
    for stage, name in (("evaluate", "table.json"), ("report", "report.html")):
        source, target = run.stage(stage) / name, run.folder / name
        if source.is_file() and run.manifest(stage):
            text = source.read_text("utf-8")
            if not target.is_file() or target.read_text("utf-8") != text:
                write_text(target, text)


def read_weights(path: Path) -> LayerWeights:
    """layer_weights.json; raises InputError if it is not one."""
    try:
        return LayerWeights.model_validate(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: not valid JSON ({error.msg})") from None
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def read_table(path: Path) -> dict[str, Any]:
    """table.json."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content

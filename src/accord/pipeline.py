"""A run as a story: vary -> retrieve -> train -> weigh -> merge -> generate -> evaluate -> report.

Each stage is one entry of STAGES: the function that does it, the part of the config it depends
on, the stages and inputs it reads. From those follows its key, and from the key whether the work of
an earlier run can be kept.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from accord import __version__
from accord.config import STAGES as STAGE_NAMES
from accord.config import Config
from accord.errors import InputError
from accord.progress import SILENT, Progress
from accord.records import (
    write_text,
)
from accord.runs import Run, hash_json
from accord.stages import STAGES, Stage
from accord.work import Work

Watch = Callable[[str], Progress]  # stage name -> its progress
Say = Callable[[str, str, float], None]  # stage name, what happened, seconds


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
    out = run.begin(stage.name, key, anew=force, keep=stage.keeps)
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


def read_table(path: Path) -> dict[str, Any]:
    """table.json."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content

"""The third stage: the rows SFT, SFT+TL, one specialist for each kind of wording, ALL, controls."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from accord import config
from accord.models.encoder import Encoder
from accord.progress import SILENT, Progress
from accord.records import Model, Passage, Wording, write_json
from accord.runs import hash_json
from accord.train.neighbours import Neighbours, find_neighbours
from accord.train.plan import Row, empty_kinds, has_answer, plan_rows, require_enough, select
from accord.train.workers import DONE, is_done, run_all

if TYPE_CHECKING:
    from accord.train.examples import Example
    from accord.train.job import Job


def train(
    base: Path,
    wordings: Sequence[Wording],
    contexts: Mapping[str, Sequence[Passage]],
    encoder: Encoder,
    out: Path,
    *,
    settings: config.Train,
    prompt: config.Prompt,
    reserve: int,
    dev: Sequence[Wording] = (),
    seed: int = 0,
    key: str = "",
    progress: Progress = SILENT,
) -> tuple[list[Model], list[str]]:
    """Fine-tune one model for each row; a row finished earlier under the same key is kept.

    Args:
        base: the model folder that every row starts from.
        wordings: of the train split.
        contexts: the passages of each wording by id, best first.
        encoder: finds the neighbours of the triplet loss.
        out: gets one model folder for each row; each appears complete or not at all.
        settings, prompt: the config's sections.
        reserve: tokens that generation keeps free for its answer.
        dev: wordings of dev-select, for early stopping.
        key: what every row depends on beside its own data and settings: base, encoder, template.

    Returns:
        The models, and notes for the user (passages cut, no chat template).
    """
    rows = plan_rows(settings)
    require_enough(rows, wordings)
    made = _Making(
        base, wordings, contexts, encoder, out, settings, prompt, reserve, dev, seed, key
    )
    _clear(out, rows)
    todo = [job for row in rows if not made.is_done(row) for job in made.jobs(row)]
    progress.start(sum(map(seen, todo)), "examples")
    notes = run_all(todo, settings, progress)
    for row in rows:
        if not row.trained and not made.is_done(row):
            made.combine(row)
    models = [Model(name=r.name, role=r.role, path=f"train/{r.folder}") for r in rows]
    return models, list(dict.fromkeys([*empty_kinds(rows, wordings), *made.notes, *notes]))


def seen(job: "Job") -> int:
    """How many examples a job reads, epoch by epoch."""
    recipe, count = job.recipe, len(job.examples)
    if recipe.steps is None:
        return recipe.settings.epochs * count
    whole, rest = divmod(recipe.steps, steps_of(count, recipe.settings))
    return whole * count + min(count, rest * recipe.settings.batch_size)


def steps_of(count: int, settings: config.Train) -> int:
    """Optimizer steps of an epoch of so many examples."""
    return math.ceil(count / settings.batch_size)


def _clear(out: Path, rows: Sequence[Row]) -> None:
    """Remove the models of rows that are no longer wanted."""
    keep = {row.folder for row in rows}
    for path in out.iterdir() if out.is_dir() else ():
        if path.is_dir() and not path.name.startswith(".") and path.name not in keep:
            shutil.rmtree(path)


@dataclass
class _Making:
    """What all rows are made from; wordings are tokenised and encoded once for all of them."""

    base: Path
    wordings: Sequence[Wording]
    contexts: Mapping[str, Sequence[Passage]]
    encoder: Encoder
    out: Path
    settings: config.Train
    prompt: config.Prompt
    reserve: int
    dev: Sequence[Wording]
    seed: int
    key: str
    notes: list[str] = field(default_factory=list)

    def is_done(self, row: Row) -> bool:
        """Whether the row was finished earlier under its key."""
        return is_done(self.out / row.folder, self._key(row))

    def jobs(self, row: Row) -> list["Job"]:
        """What has to be trained for a row: itself, or more seeds of what it is the mean of."""
        if row.trained:
            return [self._job(row, self.seed, self.out / row.folder)]
        source = next(r for r in plan_rows(self.settings) if r.name == row.of)
        return [
            self._job(source, self.seed + n, self._seed_folder(source, n), note=f" seed {n}")
            for n in range(1, row.soup or 1)
            if not is_done(self._seed_folder(source, n), self._key(source, self.seed + n))
        ]

    def combine(self, row: Row) -> None:
        """Make a row of models that are trained."""
        from accord.train.combine import average, scale

        source = next(r for r in plan_rows(self.settings) if r.name == row.of)
        target, trained = self.out / row.folder, self.out / source.folder
        aside = target.with_name(f".{target.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        seeds = [self._seed_folder(source, n) for n in range(1, row.soup or 1)]
        if row.scaled is not None:
            scale(self.base, trained, row.scaled, aside)
        else:
            average([trained, *seeds], aside)
        write_json(aside / DONE, {"key": self._key(row)})
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
        for folder in seeds:
            shutil.rmtree(folder, ignore_errors=True)

    def _seed_folder(self, row: Row, n: int) -> Path:
        return self.out / f".{row.folder}-seed-{n}"

    def _job(self, row: Row, seed: int, target: Path, note: str = "") -> "Job":
        from accord.train.arguments import Recipe
        from accord.train.job import Job

        chosen = select(row, self.wordings)
        options = self.settings.options if row.loss == self.settings.loss else {}
        recipe = Recipe(
            f"{row.name}{note}", self.settings, row.loss, options, seed, self._steps(row)
        )
        dev = [w for w in self.dev if has_answer(w) and (w.type is None or w.type in row.types)]
        return Job(
            recipe,
            self.base,
            target,
            self._key(row, seed),
            tuple(self._example(w) for w in chosen),
            self._neighbours(row, chosen) if row.triplet else None,
            tuple(self._example(w) for w in dev) if self.settings.early_stopping else (),
        )

    def _steps(self, row: Row) -> int | None:
        """As many steps as all specialists together, for a row that is trained for longer."""
        if not row.longer:
            return None
        specialists = [r for r in plan_rows(self.settings) if r.role == "specialist"]
        counts = [len(select(r, self.wordings)) for r in specialists]
        return self.settings.epochs * sum(steps_of(count, self.settings) for count in counts)

    def _key(self, row: Row, seed: int | None = None) -> str:
        """The hash of all that the weights of a row depend on."""
        chosen = [*select(row, self.wordings), *(self.dev if self.settings.early_stopping else ())]
        learned = [(w.model_dump(mode="json"), self._passages(w)) for w in chosen]
        without = {"specialists", "controls", "side_by_side", "report_to", "checkpoint_steps"}
        return hash_json(
            {
                "shared": self.key,
                "row": [row.loss, row.of, row.scaled, row.soup, self._steps(row)],
                "settings": self.settings.model_dump(mode="json", exclude=without),
                "prompt": self.prompt.model_dump(mode="json"),
                "reserve": self.reserve,
                "seed": self.seed if seed is None else seed,
                "learned": learned,
            }
        )

    def _passages(self, wording: Wording) -> list[tuple[str, str | None]]:
        return [(p.text, p.title) for p in self.contexts[wording.id]]

    @cached_property
    def _examples(self) -> dict[str, "Example"]:
        """Every wording as tokens, the same for all rows."""
        from accord.models.base import load_tokenizer, window_of
        from accord.models.prompt import Prompter
        from accord.train.examples import tokenize

        prompter = Prompter(load_tokenizer(self.base), self.prompt.template)
        rows = plan_rows(self.settings)
        wanted = {w.id for row in rows for w in select(row, self.wordings)}
        some = [w for w in self.wordings if w.id in wanted]
        if self.settings.early_stopping:
            some += [w for w in self.dev if has_answer(w)]
        found = {
            w.id: tokenize(
                prompter,
                w,
                self.contexts[w.id],
                window=window_of(self.base),
                max_prompt=self.prompt.max_tokens,
                reserve=self.reserve,
            )
            for w in some
        }
        if not prompter.has_chat_template:
            self.notes.append("the tokenizer has no chat template: prompts are plain text")
        if cut := sum(e.cut for e in found.values()):
            self.notes.append(f"training: passages were cut in {cut} prompts to fit the window")
        return found

    def _example(self, wording: Wording) -> "Example":
        return self._examples[wording.id]

    @cached_property
    def _vectors(self) -> dict[str, int]:
        """The place of each wording in the encoder's vectors."""
        return {w.id: n for n, w in enumerate(self.wordings)}

    @cached_property
    def _encoded(self) -> NDArray[np.float32]:
        return self.encoder.encode([w.query for w in self.wordings])

    def _neighbours(self, row: Row, chosen: Sequence[Wording]) -> Neighbours:
        queries = [w.query for w in chosen]
        vectors = self._encoded[[self._vectors[w.id] for w in chosen]]
        return find_neighbours(vectors, queries, [w.original_id for w in chosen], row_name=row.name)

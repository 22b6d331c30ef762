"""The third stage: the rows SFT, SFT+TL, one specialist for each kind of wording, and ALL."""

import gc
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from accord import config
from accord.errors import InputError
from accord.models.encoder import Encoder
from accord.progress import SILENT, Progress
from accord.records import Model, Passage, Wording, write_json
from accord.train.neighbours import LEAST_QUERIES, Neighbours, find_neighbours

if TYPE_CHECKING:
    from accord.models.prompt import Prompter
    from accord.train.examples import Example


@dataclass(frozen=True)
class Row:
    """One model to train: its data are the originals and the variations of `types`."""

    name: str
    role: Literal["sft", "specialist", "all"]
    types: tuple[str, ...]
    triplet: bool


def plan_rows(settings: config.Train) -> list[Row]:
    """The rows of the paper's table 2: SFT is cross-entropy only, the rest as `train.loss` says."""
    triplet = settings.loss == "triplet"
    union = tuple(dict.fromkeys(t for types in settings.specialists.values() for t in types))
    rows = [Row("SFT", "sft", (), False)]
    if triplet:
        rows.append(Row("SFT+TL", "sft", (), True))
    rows += [Row(n, "specialist", types, triplet) for n, types in settings.specialists.items()]
    return [*rows, Row("ALL", "all", union, triplet)]


def select(row: Row, wordings: Sequence[Wording]) -> list[Wording]:
    """The training wordings of a row, those that have a reference answer."""
    answered = [w for w in wordings if w.answer and not w.answer.isspace()]
    return [w for w in answered if w.type is None or w.type in row.types]


def require_enough(rows: Sequence[Row], wordings: Sequence[Wording]) -> None:
    """Raise InputError if a row with the triplet loss has fewer than 21 queries to draw from."""
    for row in rows:
        count = len(select(row, wordings))
        if not count:
            raise InputError("train: no training question has an answer to learn; give `answer`s")
        if row.triplet and count < LEAST_QUERIES:
            raise InputError(
                f"train: {row.name} has {count} training queries and the triplet loss needs "
                f"{LEAST_QUERIES} (10 nearest, 10 farthest and the query itself); give more "
                "questions to the train split, or set train.loss=ce"
            )


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
    seed: int = 0,
    key: str = "",
    progress: Progress = SILENT,
) -> tuple[list[Model], list[str]]:
    """Fine-tune one model for each row; a row finished earlier under the same `key` is kept.

    Args:
        base: the model folder that every row starts from.
        wordings: of the train split.
        contexts: the passages of each wording by id, best first.
        encoder: finds the neighbours of the triplet loss.
        out: gets one model folder for each row; each appears complete or not at all.
        settings, prompt: the config's sections.
        reserve: tokens that generation keeps free for its answer.
        key: what the result depends on; rows of another key are trained anew.

    Returns:
        The models, and notes for the user (passages cut, no chat template).
    """
    rows = plan_rows(settings)
    require_enough(rows, wordings)
    progress.start(sum(len(select(r, wordings)) for r in rows) * settings.epochs, "examples")
    models, notes = [], []
    for row in rows:
        target = out / row.name
        chosen = select(row, wordings)
        if _finished(target, key):
            progress.advance(len(chosen) * settings.epochs, row.name)
        else:
            near = _neighbours(row, chosen, encoder)
            job = _Job(base, chosen, contexts, near, settings, prompt, reserve, seed)
            notes += job.run(row.name, target, key, progress)
        models.append(Model(name=row.name, role=row.role, path=f"train/{row.name}"))
    return models, list(dict.fromkeys(notes))


def _finished(folder: Path, key: str) -> bool:
    done = folder / "training.json"
    return done.is_file() and json.loads(done.read_text("utf-8"))["key"] == key


def _neighbours(row: Row, chosen: Sequence[Wording], encoder: Encoder) -> Neighbours | None:
    if not row.triplet:
        return None
    queries = [w.query for w in chosen]
    vectors = encoder.encode(queries)
    return find_neighbours(vectors, queries, [w.original_id for w in chosen], row_name=row.name)


@dataclass(frozen=True)
class _Job:
    """Everything one row is trained from."""

    base: Path
    wordings: Sequence[Wording]
    contexts: Mapping[str, Sequence[Passage]]
    neighbours: Neighbours | None
    settings: config.Train
    prompt: config.Prompt
    reserve: int
    seed: int

    def run(self, name: str, target: Path, key: str, progress: Progress) -> list[str]:
        """Train one row into `target`, by way of a partial folder and a rename."""
        from accord.models.base import give_memory_back, load_model, load_tokenizer, save_model
        from accord.models.prompt import Prompter
        from accord.train.examples import Examples
        from accord.train.trainer import fit

        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tokenizer = load_tokenizer(self.base)
        prompter = Prompter(tokenizer, self.prompt.template)
        model = load_model(self.base)
        examples = self._tokenize(prompter, model)
        settings = self.settings
        fit(
            model,
            Examples(examples, self.neighbours, self.seed),
            pad=tokenizer.pad_token_id,
            folder=partial,
            progress=progress,
            note=name,
            seed=self.seed,
            **settings.model_dump(exclude={"loss", "specialists"}),
        )
        save_model(model, tokenizer, partial)
        del model
        gc.collect()
        give_memory_back()
        write_json(partial / "training.json", {"key": key, "examples": len(examples)})
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        return self._notes(prompter, sum(e.cut for e in examples))

    def _tokenize(self, prompter: "Prompter", model: Any) -> list["Example"]:
        from accord.models.base import window
        from accord.train.examples import tokenize

        return [
            tokenize(
                prompter,
                wording,
                self.contexts[wording.id],
                window=window(model.config),
                max_prompt=self.prompt.max_tokens,
                reserve=self.reserve,
            )
            for wording in self.wordings
        ]

    def _notes(self, prompter: "Prompter", cut: int) -> list[str]:
        notes = []
        if not prompter.has_chat_template:
            notes.append("the tokenizer has no chat template: prompts are plain text")
        if cut:
            notes.append(f"training: passages were cut in {cut} prompts to fit the window")
        return notes

"""What the stages of one run share: its config, data, model folders, and finished files."""

from functools import cached_property
from pathlib import Path

from accord.config import Config
from accord.data import Dataset, load_dataset, wordings
from accord.grounding import with_texts
from accord.models.encoder import Encoder
from accord.models.locate import locate
from accord.records import Grounded, Model, Passage, Split, Variation, Wording, read_records
from accord.retrieve.asking import asks_for
from accord.retrieve.consistency import gold_passages
from accord.retrieve.preflight import preflight, sources
from accord.runs import Run, hash_json


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

    @cached_property
    def search_encoder(self) -> Encoder | None:
        """The encoder of the retriever, the run's unless it has its own; None: it wants none."""
        settings = self.config.retrieve
        if "encode" not in asks_for(settings.type, settings.options):
            return None
        name = settings.encoder
        return self.encoder if name is None else Encoder(locate(name, "retrieve.encoder"))

    @cached_property
    def gold(self) -> dict[str, frozenset[str]]:
        """The ids of the gold passages of each question that has any."""
        return gold_passages(self.data.questions, self.data.passages)

    def wordings(self, *splits: Split) -> list[Wording]:
        """Everything asked in these splits, from the stage vary."""
        variations = read_records(self.run.stage("vary") / "variations.jsonl", Variation)
        asked = wordings(self.data.questions, variations, self.config.seed)
        return [w for w in asked if not splits or w.split in splits]

    def contexts(self, file: str = "contexts.jsonl") -> dict[str, list[Passage]]:
        """The passages of each wording by id, from the stage retrieve."""
        grounded = read_records(self.run.stage("retrieve") / file, Grounded)
        return with_texts(grounded, self.data.passages)

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
        if name == "retriever":
            return self._retriever()
        if name == "gold":
            return hash_json({id_: sorted(ids) for id_, ids in self.gold.items()})
        records = {
            "questions": self.data.questions,
            "passages": self.data.passages,
            "variations": self.data.variations,
            "contexts": self.data.contexts,
        }[name]
        return hash_json([r.model_dump(mode="json") for r in records])

    def _retriever(self) -> str:
        """The hash of the retriever's encoder and of the user's own code."""
        settings, encoder = self.config.retrieve, self.search_encoder
        # Before the work of an earlier run goes.
        preflight(settings.type, settings.options, settings.encoder)
        code = [self.run.hash_file(file) for file in sources(settings.type, settings.options)]
        return hash_json([encoder and self.run.hash_folder(encoder.folder), *code])

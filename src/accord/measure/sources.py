"""What is measured, and where the answers and references come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from accord.configfile import resolve_model_path
from accord.data import load_dataset
from accord.errors import InputError
from accord.evaluate.scoring import ACCURACY, CONSISTENCY, Resources
from accord.models.locate import locate, title
from accord.reading import read_questions
from accord.records import Answer, Passage, read_records
from accord.retrieve.consistency import gold_passages
from accord.runs import read_config

Names = tuple[str, ...]
_ENCODED = {"bs", "bertscore"}


@dataclass(frozen=True)
class Measures:
    """What is measured and how; the same for `evaluate`, `compare` and the gate."""

    T: float = 0.7
    encoder: str = "package:all-minilm-l6-v2"
    accuracy: Names = ACCURACY
    consistency: Names = CONSISTENCY
    trained: Names | None = None
    resamples: int = 2000
    seed: int = 0

    @cached_property
    def resources(self) -> Resources:
        """The sentence encoder where a chosen metric asks for it."""
        wanted = set(self.accuracy) | set(self.consistency)
        if self.encoder == "none" or not wanted & _ENCODED:
            return Resources()
        from accord.models.bertscore import TokenEmbedder
        from accord.models.encoder import Encoder

        folder = locate(resolve_model_path(self.encoder, Path()), "--encoder")
        return Resources(
            encode=Encoder(folder).encode,
            encoder=title(self.encoder),
            embed_tokens=TokenEmbedder(folder),
        )


@dataclass
class Sources:
    """Answers by seed, the references, and the kinds of rewording their run trained on.

    `gold`: the ids of the gold passages of each question that names any.
    """

    files: dict[str, list[Answer]] = field(default_factory=dict)
    references: dict[str, str | None] = field(default_factory=dict)
    gold: dict[str, frozenset[str]] = field(default_factory=dict)
    trained: Names | None = None


def read_sources(paths: Sequence[Path], references: Sequence[Path]) -> Sources:
    """Answers of files or run folders, each one seed, and the references to them.

    A run folder brings its own questions where no references are given.
    Raises InputError for what cannot be read, and where the references are missing.
    """
    found = Sources()
    for path in paths:
        label = _label(path, found.files)
        found.files[label] = read_records(_answers_of(path), Answer)
    runs = [path for path in paths if path.is_dir()]
    kinds = [tuple(sorted(read_config(path).train.kinds)) for path in runs]
    found.trained = kinds[0] if kinds and len(set(kinds)) == 1 else None
    passages: Sequence[Passage] = ()
    if references:
        questions = read_questions(references)[0]
    elif runs:
        config = read_config(runs[0])
        data = load_dataset(config.data, config.seed)
        questions, passages = list(data.questions), data.passages
    else:
        raise InputError("--references: the questions (qa.jsonl) are wanted, beside the answers")
    found.references = {q.id: q.answer for q in questions}
    found.gold = gold_passages(questions, passages)
    return found


def _answers_of(path: Path) -> Path:
    """The file of answers: itself, or the one of a run folder."""
    if not path.is_dir():
        return path
    read_config(path)  # raises InputError if it is no run
    answers = path / "generate" / "answers.jsonl"
    if not answers.is_file():
        raise InputError(f"{path}: this run has no answers yet; finish it until `generate`")
    return answers


def _label(path: Path, taken: Mapping[str, Any]) -> str:
    """The name of a seed: of the run's config, else the file's stem; distinct."""
    label = str(read_config(path).seed) if path.is_dir() else path.stem
    return label if label not in taken else f"{label} ({path})"

"""Which models are trained: the rows of the paper's table 2, and the controls of a merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from accord import config
from accord.errors import InputError
from accord.records import Wording
from accord.train.losses import needs
from accord.train.neighbours import require_queries


@dataclass(frozen=True)
class Row:
    """One model: its data are the originals and the variations of `types`.

    A row that is `trained` is fine-tuned with `loss`, for as long as all specialists together if it
    is `longer`. The others are made of `of`: its change of the base times `scaled`, or the mean of
    it and of `soup` - 1 more trained with other seeds.
    """

    name: str
    role: Literal["sft", "specialist", "all", "control"]
    types: tuple[str, ...]
    loss: str
    longer: bool = False
    of: str | None = None
    scaled: float | None = None
    soup: int | None = None

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return self.name.replace(" ", "-")

    @property
    def trained(self) -> bool:
        """Whether it is trained itself."""
        return self.of is None

    @property
    def triplet(self) -> bool:
        """Whether its loss draws neighbours."""
        return needs(self.loss) == "triplets"


def plan_rows(settings: config.Train) -> list[Row]:
    """The rows of the paper's table 2: SFT is cross-entropy only, the rest as `train.loss` says."""
    loss, controls = settings.loss, settings.controls
    union = tuple(dict.fromkeys(t for types in settings.specialists.values() for t in types))
    rows = [Row("SFT", "sft", (), "ce")]
    if needs(loss) == "triplets":  # pairs of wordings need a kind of wording
        rows.append(Row("SFT+TL", "sft", (), loss))
    rows += [Row(n, "specialist", types, loss) for n, types in settings.specialists.items()]
    rows.append(Row("ALL", "all", union, loss))
    if controls.scaled is not None:
        rows.append(Row("ALL scaled", "control", union, loss, of="ALL", scaled=controls.scaled))
    if controls.soup is not None:
        rows.append(Row("ALL soup", "control", union, loss, of="ALL", soup=controls.soup))
    if controls.longer:
        rows.append(Row("ALL longer", "control", union, loss, longer=True))
    if controls.scaled is not None:
        rows.append(Row("SFT scaled", "control", (), "ce", of="SFT", scaled=controls.scaled))
    return rows


def select(row: Row, wordings: Sequence[Wording]) -> list[Wording]:
    """The training wordings of a row, those that have an answer to learn."""
    answered = [w for w in wordings if has_answer(w)]
    return [w for w in answered if w.type is None or w.type in row.types]


def has_answer(wording: Wording) -> bool:
    """Whether there is an answer to learn."""
    return bool(wording.answer and not wording.answer.isspace())


def require_enough(rows: Sequence[Row], wordings: Sequence[Wording]) -> None:
    """Raise InputError if a row has nothing to learn, or too few queries for neighbours."""
    for row in rows:
        count = len(select(row, wordings))
        if not count:
            raise InputError(
                "train: no training question has an answer to learn; give `answer`s, or have the "
                "base model's own answers learned with train.targets=self"
            )
        if row.triplet:
            require_queries(row.name, count)


def empty_kinds(rows: Sequence[Row], wordings: Sequence[Wording]) -> list[str]:
    """A sentence for each specialist whose kinds have no wording among the answered."""
    said = []
    for row in rows:
        if row.role == "specialist" and not any(w.type for w in select(row, wordings)):
            kinds = ", ".join(f"`{kind}`" for kind in row.types)
            said.append(
                f"train.specialists.{row.name}: no training question has a variation of {kinds}, "
                "so it learns the originals alone; add the kind to vary.types, or drop the row"
            )
    return said

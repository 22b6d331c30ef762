"""The data set of a run: read, checked, split by question, limited.

A split is decided by question, never by wording: a variation always has its original's split, so
nothing from test can enter training, neighbours, development or thresholds.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.config import Data
from accord.errors import InputError
from accord.files.hub import shown
from accord.reading import read_questions, read_unique
from accord.records import (
    Grounded,
    Passage,
    Question,
    Skipped,
    Split,
    Turn,
    Variation,
    Wording,
)

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True)
class Dataset:
    """Questions with their split, the passages, and what the user froze: variations, contexts.

    `notes`: what the user should know of them.
    """

    questions: tuple[Question, ...]
    passages: tuple[Passage, ...]
    variations: tuple[Variation, ...]
    contexts: tuple[Grounded, ...] = ()
    notes: tuple[str, ...] = ()

    def of_split(self, split: Split) -> list[Question]:
        """The questions of one split, in file order."""
        return [q for q in self.questions if q.split == split]


def load_dataset(data: Data, seed: int) -> Dataset:
    """Read the files of a config's `data` section, split and limit them.

    Raises InputError for a malformed line, a duplicate or a dangling id, naming file and line.
    """
    questions, notes = read_questions(data.qa)
    passages = read_unique(data.passages, Passage)
    variations = read_unique(data.variations, Variation)
    contexts = read_unique(data.contexts, Grounded)
    _refuse_dangling(questions, passages, variations, data)
    _refuse_unknown(contexts, questions, variations, passages, data)
    taken = {q.id for q in questions}
    for v in variations:
        if v.id in taken:
            raise InputError(
                f"{_names(data.variations)}: id `{v.id}` is also a question's id; "
                "a variation needs an id of its own"
            )
    chosen = _limit(assign_splits(questions, data, seed), data)
    kept = {q.id for q in chosen}
    return Dataset(
        tuple(chosen),
        tuple(passages),
        tuple(v for v in variations if v.original_id in kept),
        tuple(contexts),
        tuple(notes),
    )


def _refuse_dangling(
    questions: Sequence[Question],
    passages: Sequence[Passage],
    variations: Sequence[Variation],
    data: Data,
) -> None:
    known = {p.id for p in passages}
    if known:
        for q in questions:
            for context in q.context_ids:
                if context not in known:
                    raise InputError(
                        f"{_names(data.qa)}: question `{q.id}`: field `context_ids`: no passage "
                        f"`{context}` in {_names(data.passages)}"
                    )
    ids = {q.id for q in questions}
    for v in variations:
        if v.original_id not in ids:
            raise InputError(
                f"{_names(data.variations)}: variation `{v.id}`: field `original_id`: no question "
                f"`{v.original_id}` in {_names(data.qa)}"
            )


def _refuse_unknown(
    contexts: Sequence[Grounded],
    questions: Sequence[Question],
    variations: Sequence[Variation],
    passages: Sequence[Passage],
    data: Data,
) -> None:
    """Raise InputError for contexts of no question here, or with a passage that has no text."""
    texts = {p.id for p in passages}
    owners = {q.id: q.id for q in questions} | {v.id: v.original_id for v in variations}
    file = _names(data.contexts)
    for g in contexts:
        if owners.get(g.id, g.original_id) != g.original_id:
            raise InputError(
                f"{file}: `{g.id}`: field `original_id`: found `{g.original_id}`; it is a wording "
                f"of `{owners[g.id]}`"
            )
        for ranked in g.passages:
            text = (ranked.model_extra or {}).get("text")
            if not (ranked.id in texts if text is None else isinstance(text, str) and text.strip()):
                raise InputError(
                    f"{file}: `{g.id}`: no passage `{ranked.id}` in data.passages, and no `text` "
                    "beside it; give one of them"
                )
            if not math.isfinite(ranked.score):
                raise InputError(
                    f"{file}: `{g.id}`: passage `{ranked.id}`: field `score`: found "
                    f"{ranked.score}; a finite number is wanted"
                )
    ids = {q.id for q in questions}
    if contexts and not any(g.original_id in ids for g in contexts):
        raise InputError(
            f"{file}: no entry is of a question in {_names(data.qa)}: `{contexts[0].id}` has the "
            f"`original_id` `{contexts[0].original_id}`"
        )


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(shown, paths))


def assign_splits(questions: Iterable[Question], data: Data, seed: int) -> list[Question]:
    """Give every question without a split one, by hash of (seed, id)."""
    shares = data.split
    assigned = []
    for q in questions:
        if q.split is None:
            u = _uniform(seed, "split", q.id)
            split: Split = (
                "train" if u < shares.train else "dev" if u < shares.train + shares.dev else "test"
            )
            q = q.model_copy(update={"split": split})
        assigned.append(q)
    return assigned


def _uniform(seed: int, *key: str) -> float:
    digest = hashlib.sha256("\x1f".join([str(seed), *key]).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _limit(questions: list[Question], data: Data) -> list[Question]:
    if data.limit is None:
        return questions
    left = {s: getattr(data.limit, s) for s in SPLITS}
    kept = []
    for q in questions:
        assert q.split is not None
        room = left[q.split]
        if room is None or room > 0:
            kept.append(q)
            left[q.split] = None if room is None else room - 1
    return kept


def dev_parts(questions: Iterable[Question], seed: int) -> dict[str, str]:
    """Halve the development questions: `fit` for weights and thresholds, `select` for recipes.

    The halves are by rank of a hash of (seed, id), so they are equal in size to within one.
    """
    dev = [q.id for q in questions if q.split == "dev"]
    ranked = sorted(dev, key=lambda i: (_uniform(seed, "dev", i), i))
    half = (len(ranked) + 1) // 2
    return {i: "fit" if rank < half else "select" for rank, i in enumerate(ranked)}


def same_query(query: str) -> str:
    """What two queries share that differ in case, spaces and closing marks only."""
    return " ".join(query.casefold().split()).rstrip("?!. ")


def what_is_asked(query: str, turns: tuple[Turn, ...] = ()) -> tuple[str, tuple[Turn, ...]]:
    """What two wordings share that ask the same: such a query, after the same turns."""
    return same_query(query), turns


def keep_apart(
    questions: Sequence[Question], variations: Sequence[Variation]
) -> tuple[list[Variation], list[Skipped]]:
    """Drop every variation that asks what another split asks: test must not leak into training.

    Questions stay, then the variations of test, of dev, of train.
    """
    splits = {q.id: q.split for q in questions}
    turns = {q.id: q.turns for q in questions}
    asked = {what_is_asked(q.query, q.turns): q.split for q in questions}
    crossing: dict[str, Skipped] = {}
    for split in reversed(SPLITS):
        for v in variations:
            if splits[v.original_id] != split:
                continue
            first = asked.setdefault(what_is_asked(v.query, turns[v.original_id]), split)
            if first != split:
                reason = f"the same query as in the {first} split"
                crossing[v.id] = Skipped(original_id=v.original_id, type=v.type, reason=reason)
    return [v for v in variations if v.id not in crossing], list(crossing.values())


def wordings(
    questions: Sequence[Question], variations: Sequence[Variation], seed: int
) -> list[Wording]:
    """Everything that is asked: each question, then its variations, all in one split."""
    parts = dev_parts(questions, seed)
    by_original: dict[str, list[Variation]] = {}
    for v in variations:
        by_original.setdefault(v.original_id, []).append(v)
    asked = []
    for q in questions:
        shared: dict[str, object] = {"split": q.split, "part": parts.get(q.id), "answer": q.answer}
        if q.as_is is not None:
            shared |= {"turns": q.turns, "as_is": q.as_is}
        own = {"id": q.id, "original_id": q.id, "type": None, "query": q.query}
        asked.append(Wording.model_validate(own | shared))
        for v in by_original.get(q.id, []):
            one = {"id": v.id, "original_id": q.id, "type": v.type, "query": v.query}
            asked.append(Wording.model_validate(one | shared))
    return asked

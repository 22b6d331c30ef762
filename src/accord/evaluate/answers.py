"""What is compared with what: answers checked, and the questions and pairs every model answered.

What is unusual here: all rows share their questions and pairs. What some model, or some seed of it,
did not answer is left out for every model, and counted; nothing is scored on a set of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError
from accord.records import Answer

CONTEXTS, REPEAT = "own", 0  # what is scored; other repeats make the noise floor
ORIGINAL, GOLD = "original", "gold"  # passages held fixed: for where inconsistency comes from
Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Entrant:
    """One row of the table: what a model said to each wording, under each of its seeds.

    `seeds`: label of the seed -> id -> answer. `repeats`: the same wordings asked again, with their
    own or the original's passages. `held`: contexts `original` or `gold` -> as `seeds`.
    """

    name: str
    seeds: Mapping[str, Mapping[str, Answer]]
    repeats: Mapping[str, Sequence[Answer]] = field(default_factory=dict)
    held: Mapping[str, Mapping[str, Mapping[str, Answer]]] = field(default_factory=dict)

    @property
    def answered(self) -> set[str]:
        """Ids answered under every seed."""
        return set.intersection(*(set(own) for own in self.seeds.values()))

    def has(self, contexts: str) -> bool:
        """Whether there are answers with these passages under every seed."""
        return all(self.held.get(contexts, {}).get(label) for label in self.seeds)


class Asked(NamedTuple):
    """A wording: the question it belongs to, its kind (null for the original), its text."""

    question: str
    id: str
    type: str | None
    query: str


@dataclass(frozen=True)
class Shared:
    """What every row answered, sorted by id.

    `pairs` are all unordered pairs of wordings of one question, the original's first: `first`,
    `second` (ids) and `owner` (G,), the index of the question. `star` (G,) marks the pairs of an
    original and a variation, which EM, RS and BS are over (paper, section 4.2); `types` (G,) is the
    kind of rewording of those, "" for the others.
    """

    questions: list[str]
    references: dict[str, str]  # only where there is one
    wordings: dict[str, Asked]
    first: list[str]
    second: list[str]
    owner: Ints
    star: NDArray[np.bool_]
    types: NDArray[np.str_]
    reworded: int = 0  # ids left out because two rows were asked them in other words


def question_of(answer: Answer) -> str:
    """The id of the original question that an answer belongs to."""
    return answer.id if answer.original_id is None else answer.original_id


def entrants(files: Mapping[str, Sequence[Answer]]) -> list[Entrant]:
    """The rows: models in the order of their first appearance, each with its seeds.

    `files`: label of a seed -> its answers. A model that is in several is one recipe under several
    seeds. A model without an answer to be scored (contexts `own`, repeat 0) is no row.
    """
    seeds: dict[str, dict[str, dict[str, Answer]]] = {}
    repeats: dict[str, dict[str, list[Answer]]] = {}
    held: dict[str, dict[str, dict[str, dict[str, Answer]]]] = {}
    for label, answers in files.items():
        for answer in answers:
            use = use_of(answer)
            if use == "scored":
                own = seeds.setdefault(answer.model, {}).setdefault(label, {})
                own[answer.id] = answer
            elif use == "held":
                by_seed = held.setdefault(answer.model, {}).setdefault(answer.contexts, {})
                by_seed.setdefault(label, {})[answer.id] = answer
            elif use == "repeats":
                repeats.setdefault(answer.model, {}).setdefault(label, []).append(answer)
    return [
        Entrant(name, own, repeats.get(name, {}), held.get(name, {})) for name, own in seeds.items()
    ]


def use_of(answer: Answer) -> Literal["scored", "held", "repeats"] | None:
    """What an answer is for; None where it is for nothing.

    An original with the original's passages is asked with its own, and its own answer is used.
    """
    if answer.contexts == ORIGINAL and question_of(answer) == answer.id:
        return None
    if answer.repeat == REPEAT:
        return "scored" if answer.contexts == CONTEXTS else "held"
    return None if answer.contexts == GOLD else "repeats"


def check_answers(
    files: Mapping[str, Sequence[Answer]], references: Mapping[str, str | None]
) -> None:
    """Raise InputError for no answers, a repeated key, an unknown question, an id that is two."""
    if not any(files.values()):
        raise InputError("answers: there are none; at least one is wanted")
    known: dict[str, Asked] = {}
    for label, answers in files.items():
        where = f"answers of seed `{label}`" if len(files) > 1 else "answers"
        _check_keys(answers, where)
        for answer in answers:
            asked = _asked(answer)
            if asked.question not in references:
                raise InputError(
                    f"{where}: model `{answer.model}`, id `{answer.id}`: question "
                    f"`{asked.question}` is not among the references; add it there, with a null "
                    "answer if it has none"
                )
            other = known.setdefault(answer.id, asked)
            if other != asked:
                raise InputError(
                    f"{where}: id `{answer.id}` is {_describe(other)} in one place and "
                    f"{_describe(asked)} in another; an id has one original_id, type and query"
                )


def _check_keys(answers: Iterable[Answer], where: str) -> None:
    seen: set[tuple[str, str, str, int]] = set()
    for answer in answers:
        if answer.key in seen:
            raise InputError(
                "{}: model `{}`, id `{}`, contexts `{}`, repeat {} occurs twice; "
                "one answer for each is wanted".format(where, *answer.key)
            )
        seen.add(answer.key)


def _asked(answer: Answer) -> Asked:
    question = question_of(answer)
    type_ = None if question == answer.id else answer.type or "untyped"
    return Asked(question, answer.id, type_, answer.query)


def _describe(asked: Asked) -> str:
    kind = f"of type `{asked.type}`" if asked.type else "of no type"
    query = asked.query if len(asked.query) <= 40 else asked.query[:39] + "…"
    return f"a wording of `{asked.question}` {kind} (`{query}`)"


def share(rows: Sequence[Entrant], references: Mapping[str, str | None]) -> Shared:
    """The questions and the complete pairs that every row answered under every seed.

    A wording that was asked in two versions is shared by no one. Raises InputError where several
    rows have no original question in common, or a question is not among the references.
    """
    common = set.intersection(*(row.answered for row in rows))
    first, *others = (own for row in rows for own in row.seeds.values())
    wordings = {id_: _asked(first[id_]) for id_ in common}
    reworded = {id_ for own in others for id_ in common if _asked(own[id_]) != wordings[id_]}
    common -= reworded
    questions = sorted(id_ for id_ in common if wordings[id_].question == id_)
    if not questions and len(rows) > 1:
        names = ", ".join(f"`{row.name}`" for row in rows)
        raise InputError(
            f"answers: no original question is answered by every one of the models {names}; "
            "rows of one table must share questions"
        )
    for id_ in questions:
        if id_ not in references:
            raise InputError(
                f"answers: question `{id_}` is not among the references; add it there, with a "
                "null answer if it has none"
            )
    known = {id_: references[id_] or "" for id_ in questions}
    wordings = {id_: wordings[id_] for id_ in sorted(common)}
    return Shared(
        questions,
        {id_: text for id_, text in known.items() if text.strip()},
        wordings,
        *_pairs(questions, wordings),
        reworded=len(reworded),
    )


def _pairs(
    questions: Sequence[str], wordings: Mapping[str, Asked]
) -> tuple[list[str], list[str], Ints, NDArray[np.bool_], NDArray[np.str_]]:
    """All unordered pairs of wordings of each question, in the order of the questions."""
    groups: dict[str, list[str]] = {id_: [id_] for id_ in questions}
    for id_, asked in wordings.items():
        if id_ != asked.question and asked.question in groups:
            groups[asked.question].append(id_)
    pairs = [
        (owner, a, b)
        for owner, ids in enumerate(groups.values())
        for a, b in combinations(ids, 2)  # the original is first in its group
    ]
    first, second = [a for _, a, _ in pairs], [b for _, _, b in pairs]
    star = [wordings[a].type is None for a in first]
    types = [wordings[b].type or "" if s else "" for b, s in zip(second, star, strict=True)]
    return (
        first,
        second,
        np.array([owner for owner, _, _ in pairs], np.intp),
        np.array(star, np.bool_),
        np.array(types, np.str_),
    )

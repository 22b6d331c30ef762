"""What is asked: every question and variation, as often as wanted."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from accord.records import Answer, Question, Variation

Key = tuple[str, str, int]  # id, contexts, repeat


class Ask(NamedTuple):
    """One wording to be asked; `question` is the id of its original."""

    id: str
    question: str
    type: str | None
    query: str
    contexts: Literal["own", "original"]
    repeat: int

    @property
    def key(self) -> Key:
        """One answer is wanted for each."""
        return self.id, self.contexts, self.repeat

    def answered(
        self, model: str, answer: str, passages: Sequence[str] | None, **more: Any
    ) -> Answer:
        """The record of an answer; fields of `more` that are null are left out."""
        return Answer.model_validate(
            {
                "model": model,
                "id": self.id,
                "original_id": None if self.type is None else self.question,
                "type": self.type,
                "query": self.query,
                "answer": answer,
                "passages": list(passages or ()),
                "contexts": self.contexts,
                "repeat": self.repeat,
                **{name: value for name, value in more.items() if value is not None},
            }
        )


def own_asks(
    questions: Sequence[Question], variations: Sequence[Variation], repeat: int
) -> list[Ask]:
    """Every wording, each question with its variations; all of them before any is repeated."""
    by_question: dict[str, list[Variation]] = {q.id: [] for q in questions}
    for v in variations:
        by_question[v.original_id].append(v)

    def once(number: int) -> Iterator[Ask]:
        for q in questions:
            yield Ask(q.id, q.id, None, q.query, "own", number)
            for v in by_question[q.id]:
                yield Ask(v.id, q.id, v.type, v.query, "own", number)

    return [ask for number in range(repeat) for ask in once(number)]


def held_asks(asks: Sequence[Ask]) -> list[Ask]:
    """Every variation again, with the passages of its original."""
    return [ask._replace(contexts="original") for ask in asks if ask.type is not None]


def originals(answers: Mapping[Key, Answer]) -> dict[str, tuple[str, ...]]:
    """The passages that each original got when it was first asked, by question."""
    return {a.id: a.passages for a in answers.values() if a.type is None and not a.repeat}

"""Wordings, passages and a scripted retriever for the tests of retrieval."""

from contextlib import contextmanager

from accord import registry
from accord.records import Grounded, Passage, Wording
from accord.registry import register


def asked(*queries, split="test"):
    return [
        Wording(id=f"q{n}", original_id=f"q{n}", type=None, query=query, split=split)
        for n, query in enumerate(queries)
    ]


class Scripted:
    """A retriever that does what `script[query]` says, and remembers what it was asked."""

    def __init__(self):
        self.script, self.seen, self.levels = {}, [], []

    def __call__(self, passages, queries, level=None, *, k):
        self.levels.append(level)
        for query in queries:
            self.seen.append(query)
            found = self.script.get(query, ["p0"])
            if isinstance(found, BaseException):
                raise found
            yield found


@contextmanager
def scripted_retriever():
    """The retriever `scripted`, registered while the block lasts."""
    made = Scripted()

    @register("retrievers", "scripted")
    def component(passages, queries, level=None, *, k):
        yield from made(passages, queries, level, k=k)

    yield made
    registry._components.pop(("retrievers", "scripted"))


POOL = [Passage(id=f"p{n}", text=f"text {n}") for n in range(5)]


def grounding(id_, original, *ids, **extra):
    passages = [{"id": i, "score": 1.0} for i in ids]
    return Grounded.model_validate(
        {"id": id_, "original_id": original, "passages": passages, **extra}
    )

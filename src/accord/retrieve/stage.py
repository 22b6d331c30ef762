"""The second stage: the passages of every wording."""

from collections.abc import Mapping, Sequence
from typing import Any

from accord.errors import InputError
from accord.progress import SILENT, Progress
from accord.records import Grounded, Passage, Wording
from accord.registry import component


def retrieve(
    wordings: Sequence[Wording],
    passages: Sequence[Passage],
    *,
    retriever: str = "bm25",
    k: int = 3,
    options: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> list[Grounded]:
    """Retrieve `k` passages for every wording, best first, in the order of the wordings.

    A wording for which nothing is found gets no passages; nothing is filled in.

    Raises InputError if there are no passages.
    """
    if not passages:
        raise InputError("data.passages: no passages to retrieve from; name a passages.jsonl")
    find = component("retrievers", retriever, "retrieve.type").function
    progress.start(len(wordings), "wordings")
    found = []
    rankings = find(passages, [w.query for w in wordings], k=k, **(options or {}))
    for wording, ranked in zip(wordings, rankings, strict=True):
        found.append(Grounded(id=wording.id, original_id=wording.original_id, passages=ranked))
        progress.advance()
    return found

"""BM25 over title and text, by bm25s (Lu 2024; the Lucene variant of Kamphuis et al. 2020)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from accord.records import Passage, Ranked
from accord.registry import register
from accord.retrieve.collection import full_text, require_passages

Level = Callable[[str], str]


@register("retrievers", "bm25")
def bm25(
    passages: Sequence[Passage],
    queries: Sequence[str],
    level: Level | None = None,
    *,
    k: int,
    k1: Annotated[float, Field(ge=0)] = 1.5,
    b: Annotated[float, Field(ge=0, le=1)] = 0.75,
) -> Iterator[tuple[Ranked, ...]]:
    """BM25 (Lucene), English stop words, no stemmer; equal scores in the order of the file.

    Yields for each query, in order, its `k` best passages, best first. A passage that shares no
    word with the query scores 0 and is not returned, so there may be fewer than `k`. `level` is
    given by the run where queries are canonical: what reduces the words of passages likewise.

    Raises InputError if there are no passages.
    """
    import bm25s

    require_passages(passages)
    written = [full_text(p) for p in passages]
    texts = _tokens([level(text) for text in written] if level else written)
    vocabulary = {token for text in texts for token in text}
    index = bm25s.BM25(k1=k1, b=b, method="lucene")
    if vocabulary:  # bm25s cannot index a collection without a single word
        index.index(texts, show_progress=False)
    for query in queries:
        known = [t for t in _tokens([query])[0] if t in vocabulary]
        if not known:
            yield ()
            continue
        scores = index.get_scores(known)
        # A stable sort makes ties follow the file: bm25s' own top-k leaves their order open.
        best = np.argsort(-scores, kind="stable")[:k]
        yield tuple(
            Ranked(id=passages[i].id, score=float(scores[i])) for i in best if scores[i] > 0
        )


def _tokens(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    tokens: list[list[str]] = bm25s.tokenize(
        list(texts), stopwords="en", return_ids=False, show_progress=False
    )
    return tokens

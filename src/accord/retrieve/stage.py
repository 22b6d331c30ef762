"""The second stage: the passages of every wording."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from accord.errors import RunError
from accord.progress import SILENT, Progress
from accord.records import Grounded, Passage, Ranked, Wording
from accord.retrieve.asking import Encode, Level, ask, check_retriever
from accord.retrieve.journal import Journal
from accord.retrieve.received import PROBLEMS, Collection, Ranking, clean, text_id, text_of

DEAD = 20  # failures in a row after which the rest is not asked


def retrieve(
    wordings: Sequence[Wording],
    passages: Sequence[Passage],
    *,
    retriever: str = "bm25",
    k: int = 3,
    options: Mapping[str, Any] | None = None,
    encode: Encode | None = None,
    level: Level | None = None,
    journal: Path | None = None,
    say: Callable[[str], object] = lambda note: None,
    progress: Progress = SILENT,
) -> list[Grounded]:
    """Retrieve `k` passages for every wording, best first, in the order of the wordings.

    Args:
        wordings: what is searched for; a query that several of them share is searched once.
        passages: the collection; may be empty for a retriever that brings its own passages.
        retriever: its name; `options` are its options.
        k: passages for each wording.
        encode: the sentence encoder, for a retriever that asks for it.
        level: what reduces the words of passages as those of canonical queries are; null: nothing.
        journal: a file that keeps what was found until all is, and is read if it is there.
        say: told of all that was dropped, failed or empty, one sentence each.
        progress: told of every query.

    A wording for which nothing is found gets no passages; nothing is filled in. The fields of a
    passage that is not in the collection, or has another text there, are kept beside id and score;
    a wording whose query failed has the reason in `failed`.

    Raises InputError for options that cannot be used or a collection that is missing, RunError
    where every query failed, or the last 20.
    """
    checked = check_retriever(retriever, options or {}, "retrieve")
    known = Collection(passages)
    first: dict[str, str] = {}  # query -> the first wording that has it
    for wording in wordings:
        first.setdefault(wording.query, wording.id)
    kept = Journal(journal)
    try:
        todo = [query for query in first if query not in kept.known]
        rankings: dict[str, Ranking] = {}
        if todo:
            found = ask(retriever, passages, todo, k=k, options=checked, encode=encode, level=level)
            rankings = _collect(todo, found, first, kept, k, known, progress)
    finally:
        kept.close()
    rankings = _told_apart(rankings | kept.known, say)
    _report({query: rankings[query] for query in first}, first, say)
    return [_grounded(w, rankings[w.query]) for w in wordings]


def _collect(
    queries: Sequence[str],
    found: Iterator[Any],
    first: Mapping[str, str],
    kept: Journal,
    k: int,
    known: Collection,
    progress: Progress,
) -> dict[str, Ranking]:
    """The cleaned ranking of each query, each kept as it arrives."""
    rankings: dict[str, Ranking] = {}
    row: list[Ranking] = []  # the latest failures in a row
    for query, raw in zip(queries, found, strict=False):
        if not rankings:
            progress.start(len(queries), "queries")
        rankings[query] = ranking = clean(query, raw, k, known)
        kept.add(ranking)
        row = [*row, ranking] if ranking.failed is not None else []
        if len(row) == DEAD:
            raise RunError(_dead(row, first, f"{DEAD} queries in a row", kept))
        progress.advance()
    if len(rankings) < len(queries) or next(found, None) is not None:
        count = len(rankings) if len(rankings) < len(queries) else "more"
        raise RunError(f"retrieve: {len(queries)} queries got {count} rankings; one each is wanted")
    if row and len(row) == len(queries) and not kept.known:
        raise RunError(_dead(row, first, "every query", kept))
    return rankings


def _dead(row: Sequence[Ranking], first: Mapping[str, str], what: str, kept: Journal) -> str:
    why = f"`{first[row[0].query]}`: {row[0].failed}"
    rest = "; what was found is kept, the same command asks the rest" if kept.known else ""
    return f"retrieve: {what} failed, first {why}{rest}"


def _told_apart(
    rankings: Mapping[str, Ranking], say: Callable[[str], object]
) -> dict[str, Ranking]:
    """Parts of one document that came under its id get ids of their own, made from their texts.

    The id that they came with stays in `document`.
    """
    texts: dict[str, set[str]] = {}
    for ranking in rankings.values():
        for ranked in ranking.passages:
            if (text := text_of(ranked)) is not None:
                texts.setdefault(ranked.id, set()).add(text)
    shared = {id_ for id_, given in texts.items() if len(given) > 1}
    if not shared:
        return dict(rankings)
    say(
        f"retriever: {len(shared)} ids came with several texts (first: `{min(shared)}`); "
        "each text counts as a passage"
    )

    def own(ranked: Ranked) -> Ranked:
        text = text_of(ranked)
        if ranked.id not in shared or text is None:
            return ranked
        part = f"{ranked.id}#{text_id(text)[-8:]}"
        return Ranked.model_validate({**ranked.model_dump(), "id": part, "document": ranked.id})

    return {
        query: ranking.model_copy(update={"passages": tuple(map(own, ranking.passages))})
        for query, ranking in rankings.items()
    }


def _report(
    rankings: Mapping[str, Ranking], first: Mapping[str, str], say: Callable[[str], object]
) -> None:
    """Say what was wrong, with the first wording of each kind of trouble."""
    for problem, text in PROBLEMS.items():
        having = [query for query, ranking in rankings.items() if problem in ranking.problems]
        if having:
            count = sum(rankings[query].problems.count(problem) for query in having)
            say(f"retriever: {count} {text} (first: `{first[having[0]]}`)")
    failed = {query: r.failed for query, r in rankings.items() if r.failed is not None}
    if failed:
        reasons = Counter(failed.values()).most_common()
        shown = ", ".join(f"{count} {reason}" for reason, count in islice(reasons, 5))
        say(
            f"retriever: {len(failed)} of {len(rankings)} queries failed ({shown}; first: "
            f"`{first[next(iter(failed))]}`) and have no passages"
        )
    empty = [query for query, r in rankings.items() if r.failed is None and not r.passages]
    if empty:
        say(
            f"retriever: nothing was found for {len(empty)} of {len(rankings)} queries (first: "
            f"`{first[empty[0]]}`); they have no passages"
        )


def _grounded(wording: Wording, ranking: Ranking) -> Grounded:
    extra = {} if ranking.failed is None else {"failed": ranking.failed}
    own = {"id": wording.id, "original_id": wording.original_id, "passages": ranking.passages}
    return Grounded.model_validate(own | extra)

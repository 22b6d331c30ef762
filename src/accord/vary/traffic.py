"""Rewordings that people really wrote: groups of queries in a log that ask the same.

Search is exact and in blocks, so that 100,000 queries need no matrix of all pairs. A query joins a
group only if it is near to every query in it and the meaning guard finds nothing against any pair:
a chain of neighbours does not lead from one question to another. Groups are for review, not truth.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from accord.errors import InputError
from accord.files.rows import holds_rows
from accord.progress import SILENT, Progress
from accord.records import Id, Question, Record, Text, Variation, read_records
from accord.vary.meaning import LONGEST, Limits, fold, meaning
from accord.vary.named import Entities
from accord.vary.nearest import Floats, near_pairs

Encode = Callable[[Sequence[str]], NDArray[Any]]

THRESHOLD = 0.85
"""Least cosine similarity under all-MiniLM-L6-v2; docs/results/semantic.md says why."""
_ENCODED = 2048  # texts encoded at a time


class Logged(Record):
    """A query of a log: how often it was asked, and when."""

    query: Text
    id: Id | None = None
    count: Annotated[int, Field(ge=1)] = 1
    time: float | str | None = None


class Wording(NamedTuple):
    """A query of the log, with all that differ from it in case, punctuation and articles alone.

    `asked` counts all of them, `id` is the first of this wording, `times` the first and the last.
    """

    query: str
    asked: int
    id: str | None = None
    times: tuple[Any, ...] = ()


class Group(NamedTuple):
    """Wordings of one question, the most frequent first, and their similarity to that one."""

    wordings: tuple[Wording, ...]
    similarities: tuple[float, ...]


def read_log(path: Path) -> list[Logged]:
    """A query log: rows with `query` where the name ends in .jsonl or .parquet, else lines.

    Raises InputError naming the line for what is neither.
    """
    if holds_rows(path):
        return read_records(path, Logged)
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    return [Logged(query=line.strip()) for line in lines if line.strip()]


def groups(
    queries: Sequence[Logged],
    encode: Encode,
    *,
    threshold: float = THRESHOLD,
    length_ratio: float = Limits().length_ratio,
    entities: Entities | None = None,
    progress: Progress = SILENT,
) -> list[Group]:
    """Groups of two and more queries that are rewordings of each other, the most asked first.

    The order of the log does not matter. What is no query (over `meaning.LONGEST` characters) is
    left out.

    Args:
        queries: the log.
        encode: gives L2-normalised vectors (N, D).
        threshold: least cosine similarity of any two queries of a group.
        length_ratio: how many times longer than another a query of a group may be.
        entities: as for `meaning.meaning`.
        progress: told of the queries that are encoded and then compared.
    """
    known = fold_log(queries)
    progress.start(2 * len(known), "queries")
    vectors = _vectors([wording.query for wording in known], encode, progress)
    limits = Limits(threshold, identical=2.0, length_ratio=length_ratio)
    linker = _Linker([w.query for w in known], vectors, limits, entities)
    for first, second in near_pairs(vectors, threshold, progress=progress):
        linker.link(first, second)
    found = [_group(members, known, vectors) for members in linker.groups()]
    return sorted(found, key=lambda group: (-sum(w.asked for w in group.wordings), group))


def fold_log(queries: Iterable[Logged]) -> list[Wording]:
    """One wording for all queries of one fold: the most frequent of them; in order of the folds."""
    same: dict[str, list[Logged]] = defaultdict(list)
    for logged in queries:
        if len(logged.query) <= LONGEST:
            same[fold(logged.query)].append(logged)
    return [_wording(same[key]) for key in sorted(same)]


def as_records(found: Sequence[Group]) -> tuple[list[Question], list[Variation]]:
    """Questions and their variations (type `semantic`, `written_by: traffic`), for review.

    An id is that of the log, else made of the query. Raises InputError if the log uses one twice.
    """
    questions, variations = [], []
    seen: set[str] = set()
    for group in found:
        name = _id(group.wordings[0])
        if name in seen:
            raise InputError(f"the log gives the id `{name}` to two different queries")
        seen.add(name)
        asked = sum(wording.asked for wording in group.wordings)
        first = group.wordings[0]
        questions.append(
            Question.model_validate({"id": name, "query": first.query, "count": asked})
        )
        variations += [_variation(name, n, group) for n in range(1, len(group.wordings))]
    return questions, variations


def _variation(original_id: str, number: int, group: Group) -> Variation:
    wording = group.wordings[number]
    own = {
        "id": f"{original_id}~semantic~{number - 1}",
        "original_id": original_id,
        "type": "semantic",
        "query": wording.query,
        "written_by": "traffic",
        "count": wording.asked,
        "similarity": round(group.similarities[number], 4),
    }
    seen = {"first": wording.times[0], "last": wording.times[1]} if wording.times else {}
    return Variation.model_validate({**own, **seen})


def _id(wording: Wording) -> str:
    digest = hashlib.sha256(wording.query.encode("utf-8", "replace")).hexdigest()
    return wording.id or f"t-{digest[:12]}"


def _wording(same: Sequence[Logged]) -> Wording:
    counts: dict[str, int] = defaultdict(int)
    for logged in same:
        counts[logged.query] += logged.count
    query = min(counts, key=lambda text: (-counts[text], text))
    named = sorted(logged.id for logged in same if logged.id and logged.query == query)
    return Wording(query, sum(counts.values()), named[0] if named else None, _times(same))


def _times(same: Sequence[Logged]) -> tuple[Any, ...]:
    """The first and the last time, if there are any and all are numbers or all are strings."""
    times: list[Any] = [logged.time for logged in same if logged.time is not None]
    alike = len({isinstance(time, str) for time in times}) == 1
    return (min(times), max(times)) if alike else ()


def _vectors(texts: Sequence[str], encode: Encode, progress: Progress) -> Floats:
    if not texts:
        return np.zeros((0, 1), np.float32)
    blocks = []
    for start in range(0, len(texts), _ENCODED):
        block = texts[start : start + _ENCODED]
        blocks.append(np.asarray(encode(block), np.float32))
        progress.advance(len(block), "encoded")
    return np.concatenate(blocks)


class _Linker:
    """Groups by complete linkage: two become one if every pair across them may be linked."""

    def __init__(
        self, texts: Sequence[str], vectors: Floats, limits: Limits, entities: Entities | None
    ) -> None:
        self._texts, self._vectors = texts, vectors
        self._limits, self._entities = limits, entities
        self._group_of = {row: row for row in range(len(texts))}
        self._members = {row: [row] for row in range(len(texts))}

    def link(self, first: int, second: int) -> None:
        """Make one group of two queries' groups, if all of their queries agree."""
        a, b = self._group_of[first], self._group_of[second]
        if a == b or not self._agree(self._members[a], self._members[b]):
            return
        for row in self._members[b]:
            self._group_of[row] = a
        self._members[a] += self._members.pop(b)

    def groups(self) -> Iterator[list[int]]:
        """The rows of each group of at least two."""
        return (members for members in self._members.values() if len(members) > 1)

    def _agree(self, ours: Sequence[int], theirs: Sequence[int]) -> bool:
        similarities = self._vectors[list(ours)] @ self._vectors[list(theirs)].T
        if similarities.min() < self._limits.threshold - 1e-6:
            return False
        return all(
            meaning(
                self._texts[min(i, j)],
                self._texts[max(i, j)],
                limits=self._limits,
                entities=self._entities,
            )
            is None
            for i in ours
            for j in theirs
        )


def _group(members: Sequence[int], known: Sequence[Wording], vectors: Floats) -> Group:
    order = sorted(members, key=lambda row: (-known[row].asked, known[row].query))
    similarities = vectors[order] @ vectors[order[0]]
    return Group(tuple(known[row] for row in order), tuple(float(s) for s in similarities))

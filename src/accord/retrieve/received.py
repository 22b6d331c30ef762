"""What a retriever gave for one query, read and cleaned: nothing in it may stop a run.

A retriever of ours gives `Ranked`; a callable of the user's or a service may give ids, pairs,
mappings, or anything. The order given is the ranking: scores are shown and never sorted by, since
some retrievers score by closeness and others by distance.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, SupportsFloat, TypeGuard

from accord.records import Passage, Ranked, Record

IDS = ("id", "_id", "node_id")
TEXTS = ("text", "page_content", "content")
SCORES = ("score", "_score")

PROBLEMS = {
    "duplicate": "duplicate passages dropped",
    "unknown": "passages with an id that is not in data.passages and without text dropped",
    "malformed": "results with neither an id nor a text dropped",
    "beyond": "passages beyond k dropped",
    "score": "scores that are no finite number; those passages keep their place",
}
"""What may be wrong with a single result, and what was done about it."""


@dataclass(frozen=True)
class Failure:
    """A query that a retriever could not answer, and why, in a few words."""

    reason: str


class Ranking(Record):
    """The passages of one query, best first, and what was wrong with what the retriever gave."""

    query: str
    passages: tuple[Ranked, ...] = ()
    problems: tuple[str, ...] = ()
    failed: str | None = None


class Collection:
    """The passages of data.passages: their texts by id, and the first id of each text."""

    def __init__(self, passages: Sequence[Passage] = ()) -> None:
        self.texts = {p.id: p.text for p in passages}
        self.ids = {p.text: p.id for p in reversed(passages)}


def clean(query: str, found: Any, k: int, known: Collection) -> Ranking:
    """At most `k` passages of what a retriever gave for `query`, each once.

    A passage needs an id of the collection or a text of its own. A text of the collection under an
    id that is not of it, or none, is that passage; another text without an id gets one made from
    it. Where a score is missing it is 1 / place.
    """
    if isinstance(found, Failure):
        # What a file cannot hold, such as half a surrogate pair, may be in it.
        reason = found.reason.encode("utf-8", "replace").decode()
        return Ranking(query=query, failed=reason)
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        return Ranking(query=query, failed=f"gave a {type(found).__name__}, not a list")
    problems: list[str] = []
    kept: dict[tuple[str, str | None], Ranked] = {}
    for place, item in enumerate(found, start=1):
        ranked, problem = _read(item, place, known)
        if problem:
            problems.append(problem)
        if ranked is None:
            continue
        same = (ranked.id, text_of(ranked))
        if same in kept:
            problems.append("duplicate")
        elif len(kept) == k:
            problems.append("beyond")
        else:
            kept[same] = ranked
    return Ranking(query=query, passages=tuple(kept.values()), problems=tuple(problems))


def text_of(ranked: Ranked) -> str | None:
    """The text that the retriever itself gave; None for a passage of the collection."""
    text: str | None = (ranked.model_extra or {}).get("text")
    return text


def text_id(text: str) -> str:
    """The id of a passage that has none: the same text has the same id in every ranking."""
    return "text-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _read(item: Any, place: int, known: Collection) -> tuple[Ranked | None, str | None]:
    """One result as a passage, or None; and what was wrong with it."""
    if isinstance(item, Ranked):
        item = item.model_dump()
    given = None
    if isinstance(item, tuple | list) and len(item) == 2:
        item, given = item
    fields = _fields(item, known)
    score, odd = _score(fields and _first(fields, SCORES) if given is None else given, place)
    id_, text = _identity(fields, known)
    if id_ is None:
        return None, "malformed"
    if text is None and id_ not in known.texts:
        return None, "unknown"
    own = {"id": id_, "score": score}
    if text is not None and text != known.texts.get(id_):
        own |= {"text": text}
        title = fields.get("title") or _metadata(fields).get("title")
        own |= {"title": title} if _is_text(title) else {}
    return Ranked.model_validate(own), "score" if odd else None


def _fields(item: Any, known: Collection) -> Mapping[str, Any]:
    """A result by field; a string is an id if it is a known one or a single word, else a text."""
    if isinstance(item, Mapping):
        return item
    if isinstance(item, Integral) and not isinstance(item, bool):
        return {"id": item}
    if isinstance(item, str):
        return {"id": item} if item in known.texts or len(item.split()) == 1 else {"text": item}
    return {}


def _identity(fields: Mapping[str, Any], known: Collection) -> tuple[str | None, str | None]:
    """(id, text) of a result: a known id before another, else one made from the text."""
    text = _first(fields, TEXTS)
    text = text if _is_text(text) else None
    named = [*(fields.get(name) for name in IDS), *(_metadata(fields).get(name) for name in IDS)]
    ids = [id_ for value in named if (id_ := _id(value)) is not None]
    id_ = next((i for i in ids if i in known.texts), ids[0] if ids else None)
    if text is not None and id_ not in known.texts:
        id_ = known.ids.get(text) or id_ or text_id(text)
    return id_, text


def _id(value: Any) -> str | None:
    """An id: a text, or a whole number (of numpy as well); None for what is none."""
    if not isinstance(value, str | Integral) or isinstance(value, bool) or value == "":
        return None
    try:
        found = str(value)  # ValueError for thousands of digits
        found.encode()
    except ValueError:
        return None
    return found


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a text that says something and that a file can hold."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _metadata(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    found = fields.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _score(value: Any, place: int) -> tuple[float, bool]:
    """A score, 1 / place where there is none, and whether it was no finite number."""
    if value is None:
        return 1 / place, False
    if not isinstance(value, SupportsFloat) or isinstance(value, bool):
        return 1 / place, True
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        return 1 / place, True
    return (score, False) if math.isfinite(score) else (1 / place, True)

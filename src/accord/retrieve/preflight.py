"""What can be known of a retriever before it is asked anything."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import InputError
from accord.records import Grounded, Passage, Question, Wording
from accord.registry import component
from accord.retrieve.asking import asks_for, check_retriever
from accord.retrieve.callables import find_target, source
from accord.retrieve.hybrid import OF, parts
from accord.retrieve.remote import open_service

_HTTP = ("retrievers", "http", "retrieve.type")
_SEARCH_COLLECTION = {"bm25", "dense"}


def preflight(name: str, options: Mapping[str, Any], encoder: str | None = None) -> None:
    """Raise InputError for a retriever that cannot work as its options say.

    `encoder`: the one named for it, if any. A callable is imported, since it could not be known to
    be there otherwise; nothing is asked.
    """
    for part, given in _parts(name, options):
        checked = check_retriever(part, given, "retrieve")
        if part == "python":
            find_target(checked.get("callable", ""), checked.get("folder"))
        elif part == "http":
            open_service(**{n: p.default for n, p in component(*_HTTP).options.items()} | checked)
    if encoder is not None and "encode" not in asks_for(name, options):
        raise InputError(
            f"retrieve.encoder: `{name}` uses no sentence encoder; take the option out, or choose "
            "`dense` or `hybrid`"
        )


def needs_collection(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the retriever searches data.passages, and so cannot do without."""
    return any(part in _SEARCH_COLLECTION for part, _ in _parts(name, options))


WITHOUT = "there are no passages: every question is put to the models as it is"


def goes_without(
    asked: Sequence[Question | Wording],
    passages: Sequence[Passage],
    brought: Sequence[Grounded],
) -> bool:
    """Whether nothing is retrieved: there are no passages, and no question is meant to have any."""
    return not passages and not brought and all(one.as_is is not None for one in asked)


def sources(name: str, options: Mapping[str, Any]) -> list[Path]:
    """The files of the user's own code that the retriever is."""
    found = [
        source(given.get("callable", ""), given.get("folder"))
        for part, given in _parts(name, options)
        if part == "python"
    ]
    return [path for path in found if path is not None]


def _parts(name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The retriever itself, then those that it is made of."""
    yield name, options
    if name == "hybrid":
        for part, given in parts(options.get("of", OF)):
            yield from _parts(part, given)

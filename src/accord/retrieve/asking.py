"""A retriever by name, with its options and what the run gives to those that ask for it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

from numpy.typing import NDArray

from accord.errors import InputError
from accord.records import Passage
from accord.registry import check_options, component

Encode = Callable[[Sequence[str]], NDArray[Any]]
Level = Callable[[str], str]
GIVEN = ("encode", "level")
"""What a retriever may ask for by the name of a parameter: the sentence encoder, and what reduces
the words of passages as canonical queries are reduced."""


def ask(
    name: str,
    passages: Sequence[Passage],
    queries: Sequence[str],
    *,
    k: int,
    options: Mapping[str, Any],
    encode: Encode | None = None,
    level: Level | None = None,
) -> Iterator[Any]:
    """What the retriever gives for each query, in order."""
    function = component("retrievers", name, "retrieve.type").function
    given = {"encode": encode, "level": level}
    wanted = {n: given[n] for n in GIVEN if n in signature(function).parameters}
    if name != "hybrid" and "encode" in wanted and encode is None:
        raise InputError(f"retrieve: `{name}` needs a sentence encoder; name one as `encoder`")
    found: Iterator[Any] = iter(function(passages, queries, k=k, **wanted, **options))
    return found


def asks_for(name: str, options: Mapping[str, Any]) -> frozenset[str]:
    """Which of GIVEN a retriever wants; a hybrid wants what its parts want."""
    if name == "hybrid":
        from accord.retrieve.hybrid import OF, parts

        return frozenset().union(*(asks_for(n, o) for n, o in parts(options.get("of", OF))))
    function = component("retrievers", name, "retrieve.type").function
    return frozenset(GIVEN) & set(signature(function).parameters)


def check_retriever(name: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options of a retriever, validated; raises InputError."""
    found = component("retrievers", name, where)
    parameters = signature(found.function).parameters.values()
    for parameter in parameters:
        required = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        if required and parameter.name not in {"k", *GIVEN}:
            known = ", ".join(f"`{n}`" for n in ("k", *GIVEN))
            raise InputError(
                f"{where}: retriever `{name}` asks for `{parameter.name}`; it may ask for {known}"
            )
    return check_options(found, options, where)

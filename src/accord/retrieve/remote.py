"""A retriever behind an address: each query is posted as JSON, the passages read from the reply."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from accord.errors import InputError
from accord.records import Passage
from accord.registry import register
from accord.retrieve.received import Failure

if TYPE_CHECKING:
    from accord.models.service import Service

WHERE = "retrieve"


@register("retrievers", "http")
def http(
    passages: Sequence[Passage],
    queries: Sequence[str],
    *,
    k: int,
    url: str = "",
    body: dict[str, Any] | str | None = None,
    results: str = "results",
    headers: tuple[str, ...] = (),
    api_key_env: str | None = None,
    rate: Annotated[float, Field(gt=0)] | None = None,
    concurrency: Annotated[int, Field(ge=1)] = 4,
    timeout: Annotated[float, Field(gt=0)] = 30.0,
    tries: Annotated[int, Field(ge=1)] = 3,
) -> Iterator[list[Any] | Failure]:
    """A retriever behind an address: JSON by POST, the passages at a JMESPath of the reply.

    Yields for each query, in order, what stands at `results`: ids, or mappings with `id`, `text`,
    `score`; `hits[*].{id: _id, text: source.body}` makes such mappings. `body` is a template with
    `{{ query }}` and `{{ k }}`. A header is `Name: $VARIABLE` of the environment; `rate` is in
    requests a second, `timeout` in seconds.

    Raises InputError for options that cannot be used, and RunError if nobody is at the address or
    the first reply has no such path.
    """
    service = open_service(
        url, body, results, headers, api_key_env, rate, concurrency, timeout, tries
    )
    replies = service.ask_all([{"query": query, "k": k} for query in queries])
    for number, reply in enumerate(replies):
        if reply.values is not None:
            found = reply.values["results"]
            yield [] if found is None else found
        elif number == 0 and (reply.mend or reply.reason == "no connection"):
            raise service.error(reply)  # so it will be for every other
        else:
            yield Failure(reply.reason)


def open_service(
    url: str,
    body: dict[str, Any] | str | None,
    results: str,
    headers: Sequence[str],
    api_key_env: str | None,
    rate: float | None,
    concurrency: int,
    timeout: float,
    tries: int,
) -> "Service":
    """The client that asks; raises InputError for options that cannot be used."""
    from accord.models.service import Service

    if not url:
        raise InputError(f"{WHERE}.url: is missing; the address of the retriever is wanted")
    return Service(
        url,
        body={"query": "{{ query }}", "k": "{{ k }}"} if body is None else body,
        paths={"results": results},
        headers=_headers(headers, api_key_env),
        rate=rate,
        concurrency=concurrency,
        timeout=timeout,
        tries=tries,
        where=WHERE,
        purpose="remote retrievers",
    )


def _headers(lines: Sequence[str], api_key_env: str | None) -> dict[str, str]:
    """Headers by name; raises InputError for a line that is none."""
    found = {"Authorization": f"Bearer ${api_key_env}"} if api_key_env else {}
    for line in lines:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not (name and colon and value):
            raise InputError(f"{WHERE}.headers: the form is `Name: $VARIABLE`")
        found[name] = value
    return found

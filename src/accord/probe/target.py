"""The endpoint as the user describes it; what does not fit together is refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accord.errors import InputError
from accord.models.service import fill_header, variables

WHERE = "probe"


@dataclass(frozen=True)
class Target:
    """What is asked and how it answers: the options of `accord probe` that are about this.

    `headers` are lines `Name: ... $VARIABLE ...`. `retriever`, `k` and `encoder`, for a retriever
    that asks for one, are for `passages`, the collection that is searched here where the endpoint
    does not retrieve itself.
    """

    url: str
    api: Literal["chat", "json"] = "chat"
    model: str | None = None
    body: str | None = None
    fixed: str | None = None
    answer: str | None = None
    passage_ids: str | None = None
    headers: tuple[str, ...] = ()
    api_key_env: str | None = None
    system: str | None = None
    temperature: float = 0.0
    max_tokens: int | None = None
    seed: int = 0
    passages: Path | None = None
    retriever: str = "bm25"
    k: int = 3
    encoder: str | None = None
    prompt: Path | None = None


@dataclass(frozen=True)
class Patience:
    """How hard it is tried, which no answer depends on: see accord.models.asking.Manners."""

    rate: float | None = None
    concurrency: int = 4
    timeout: float = 60.0
    tries: int = 5
    sleep: Callable[[float], object] | None = None


def refuse_stray(target: Target) -> None:
    """Raise InputError for an option that would do nothing."""
    chat_only = {
        "--system": target.system,
        "--max-tokens": target.max_tokens,
        "--prompt": target.prompt,
    }
    json_only = {
        "--body": target.body,
        "--fixed": target.fixed,
        "--answer": target.answer,
        "--passage-ids": target.passage_ids,
    }
    if target.api == "chat":
        stray = [name for name, value in json_only.items() if value is not None]
        if stray:
            raise InputError(f"{stray[0]}: is for --api json; give that, or leave it out")
        if target.model is None:
            raise InputError("--model: is missing; name the model to ask for, or give --api json")
        if target.prompt and target.passages is None:
            raise InputError("--prompt: does nothing without --passages; give both")
        return
    stray = [name for name, value in chat_only.items() if value is not None]
    if stray:
        raise InputError(f"{stray[0]}: is for --api chat; write it into --body")
    if target.fixed and target.passage_ids is None and target.passages is None:
        raise InputError(
            "--fixed: hands over the passages that the original got, so they must be known; "
            "give --passage-ids, or --passages to retrieve here"
        )


def read_headers(lines: Sequence[str], api_key_env: str | None) -> dict[str, str]:
    """Headers by name, their values still with the names of environment variables in them.

    Raises InputError for a line of another form and for a value that is not from the environment,
    which it does not show: a shell puts in what stands in double quotes.
    """
    found = {"Authorization": f"Bearer ${api_key_env}"} if api_key_env else {}
    for line in lines:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not (colon and name.isascii() and name.replace("-", "").isalnum() and value):
            raise InputError("--header: the form is 'Name: $VARIABLE', in single quotes")
        if not variables(value):
            raise InputError(
                f"--header {name}: its value stands there itself; put it in an environment "
                f"variable and write '{name}: $VARIABLE', in single quotes"
            )
        found[name] = value
    for name, value in found.items():
        fill_header(name, value, WHERE)
    return found

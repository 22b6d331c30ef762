"""Greedy answers from OpenAI-compatible servers: vLLM, SGLang, llama-server and their like.

Where a command that serves a model is given, the server of each row is started in turn, asked
everything and stopped. What a server has loaded cannot be seen from here: a row's model is known
by its name.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from accord.config import Prompt
from accord.errors import InputError, RunError
from accord.generate.request import Job, Reply, unkept
from accord.models.answers import AnswerCache
from accord.registry import register, suggest

if TYPE_CHECKING:
    from accord.generate.completions import Question
    from accord.generate.prompting import Prompts
    from accord.generate.served import Door

WHERE = "generate"
Api = Literal["auto", "chat", "completions"]
_OURS = ("messages", "model", "n", "prompt", "stream", "temperature")  # not to be set by `body`


class Way(NamedTuple):
    """What an answer of a row depends on beside its prompt: whom to ask, and how."""

    base_url: str | None
    serve: str | None
    models: Mapping[str, str]
    api: Api
    body: Mapping[str, Any]
    api_key_env: str | None

    def served_name(self, row: str) -> str:
        """What a row's model is called at the server."""
        return self.models.get(row, row)

    def door(self) -> "Door":
        """The door of the server that runs already."""
        from accord.generate.served import Door

        return Door(self.base_url or "", self.api_key_env)


def way_of(
    base_url: str | None = None,
    serve: str | None = None,
    models: Mapping[str, str] | None = None,
    api: Api = "auto",
    body: Mapping[str, Any] | None = None,
    api_key_env: str | None = None,
) -> Way:
    """The way that options of the backend describe."""
    return Way(base_url, serve, models or {}, api, body or {}, api_key_env)


def check_way(way: Way, rows: Sequence[str] | None = None) -> None:
    """Raise InputError for options that exclude one another, and for names of no row."""
    if (way.base_url is None) == (way.serve is None):
        found = "neither is" if way.serve is None else "both are"
        raise InputError(
            f"{WHERE}: {found} given of base_url, the address of a server, and serve, a command "
            "that starts one for each row; one of them is wanted"
        )
    known: dict[str, str] = {}
    for row, name in way.models.items():
        if rows is not None and row not in rows:
            raise InputError(f"{WHERE}.models: no row `{row}`; {suggest(row, rows)}")
        if known.setdefault(name, row) != row:
            raise InputError(
                f"{WHERE}.models: `{known[name]}` and `{row}` are both `{name}`, so their answers "
                "would be the same; serve each row under a name of its own"
            )
    for name in sorted(way.body.keys() & set(_OURS)):
        raise InputError(f"{WHERE}.body: `{name}` is the same for every backend; take it out")


@register("backends", "openai")
def openai(
    jobs: Sequence[Job],
    *,
    prompt: Prompt,
    max_new_tokens: int,
    cache: AnswerCache,
    base_url: str | None = None,
    serve: str | None = None,
    models: dict[str, str] | None = None,
    api: Api = "auto",
    body: dict[str, Any] | None = None,
    api_key_env: str | None = None,
    start_timeout: Annotated[float, Field(gt=0)] = 900.0,
    concurrency: Annotated[int, Field(ge=1)] = 16,
    timeout: Annotated[float, Field(gt=0)] = 120.0,
    tries: Annotated[int, Field(ge=1)] = 5,
    rate: Annotated[float, Field(gt=0)] | None = None,
    seed: int = 0,
) -> Iterator[Reply]:
    """Any OpenAI-compatible server: one that runs, or one that is started for each row in turn."""
    from accord.generate.completions import ask, service
    from accord.generate.prompting import Prompts, by_row
    from accord.models.asking import Manners

    way = way_of(base_url, serve, models, api, {"seed": seed, **(body or {})}, api_key_env)
    check_way(way)
    prompts = Prompts(Path(jobs[0].folder), prompt, max_new_tokens)
    chat = _by_chat(way, prompts, jobs[0].model)
    waiting = []
    for row in by_row(jobs):
        todo = []
        for question in _questions(row, prompts, way, chat, max_new_tokens):
            if (known := cache.known.get(question.key)) is not None:
                yield question.reply(*unkept(known))
            else:
                todo.append(question)
        if todo:
            waiting.append((row[0], todo))
    if waiting and serve is None:
        require_served(way.door(), waiting, way, max_new_tokens)
    manners = Manners(timeout, concurrency, tries, rate)
    for job, todo in waiting:
        with _opened(job, way, cache, start_timeout) as (door, trouble):
            if serve is not None:
                require_served(door, [(job, todo)], way, max_new_tokens)
            yield from ask(service(door, manners, chat=chat), todo, cache, trouble)


def _by_chat(way: Way, prompts: "Prompts", row: str) -> bool:
    if way.api == "chat" and not prompts.chat:
        raise InputError(
            f"{WHERE}.api: the model of `{row}` has no chat template: it learned plain prompts, "
            "and would be asked in another form; set `completions`, or leave it out"
        )
    return prompts.chat if way.api == "auto" else way.api == "chat"


def _questions(
    row: Sequence[Job], prompts: "Prompts", way: Way, chat: bool, max_new_tokens: int
) -> Iterator["Question"]:
    """Everything that a row's model is asked, in all repeats."""
    from accord.generate.completions import Question

    fields = {
        "model": way.served_name(row[0].model),
        "max_tokens": max_new_tokens,
        "temperature": 0,
        # Some servers take these two from files of the model, and rows would not be comparable.
        "stop_token_ids": prompts.ends,
        "repetition_penalty": 1.0,
        **way.body,
    }
    common = {name: value for name, value in fields.items() if value is not None}
    address = way.serve or way.door().url
    for job in row:
        for asked in map(prompts.build, job.requests):
            turns = [{"role": turn.role, "content": turn.content} for turn in asked.turns]
            body = {**common, **({"messages": turns} if chat else {"prompt": [list(asked.ids)]})}
            said = [job.weights, "openai", address, body, job.repeat]
            key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
            yield Question(job.model, job.repeat, asked, body, key)


@contextmanager
def _opened(
    job: Job, way: Way, cache: AnswerCache, start_timeout: float
) -> Iterator[tuple["Door", Callable[[], str]]]:
    """The door of the server that has a row's model, and what is wrong with that server."""
    if way.serve is None:
        yield way.door(), str
        return
    from accord.generate.logs import log_of
    from accord.generate.serving import serving
    from accord.models.base import give_memory_back

    give_memory_back()
    with serving(
        way.serve,
        folder=job.folder,
        name=way.served_name(job.model),
        log=log_of(cache.path, job.model, "server"),
        api_key_env=way.api_key_env,
        start_timeout=start_timeout,
    ) as opened:
        yield opened


def require_served(
    door: "Door",
    waiting: Sequence[tuple[Job, Sequence["Question"]]],
    way: Way,
    max_new_tokens: int,
) -> None:
    """Raise what makes it useless to ask: nobody there, no such model, too small a window."""
    listed = door.models()
    if isinstance(listed, str):
        raise RunError(f"{WHERE}: {door.url}: {listed}; is it running?")
    for job, todo in waiting:
        name = way.served_name(job.model)
        if listed and name not in listed:
            shown = ", ".join(f"`{one}`" for one in sorted(listed)[:10])
            raise InputError(
                f"{WHERE}: {door.url} has no model `{name}` for the row `{job.model}`; it has "
                f"{shown}: name the right one in {WHERE}.models, or serve it by that name"
            )
        longest = max(len(one.asked.ids) for one in todo) + max_new_tokens
        fits = listed.get(name)
        if fits is not None and fits < longest:
            raise InputError(
                f"{WHERE}: {door.url} takes {fits} tokens for `{name}`, and the longest prompt "
                f"with its answer has {longest}; start it with a larger window, or set "
                "prompt.max_tokens"
            )

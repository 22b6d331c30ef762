"""What can be known of a backend before a model is there to answer."""

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from accord.errors import InputError
from accord.generate.openai import Way, check_way, way_of
from accord.generate.vllm import check_vllm

_ASIDE = 2.0  # seconds for a look at a server
_SHOWN = 5  # names that a server lists


def preflight(
    backend: str, options: Mapping[str, Any], rows: Sequence[str]
) -> Iterator[tuple[Literal["ok", "note"], str]]:
    """What a user should know of the backend for these rows. Nothing is asked of a model.

    A server that does not answer is a note: it may be started later, or hold other rows by then.
    Raises InputError for what cannot work.
    """
    if backend == "vllm":
        check_vllm(options.get("engine") or {})
        yield "ok", "vllm is installed"
    elif backend == "openai":
        way = way_of(**{name: options[name] for name in Way._fields if name in options})
        check_way(way, rows)
        for name in ("httpx", "jmespath"):
            if importlib.util.find_spec(name) is None:
                raise InputError('answers from an endpoint need `pip install "accord[endpoints]"`')
        if way.api_key_env and not os.environ.get(way.api_key_env, "").strip():
            yield "note", f"${way.api_key_env} is not set: the server is asked without a key"
        yield _command(way.serve) if way.serve is not None else _reached(way, rows)


def _command(serve: str) -> tuple[Literal["ok", "note"], str]:
    from accord.generate.serving import fill

    return "ok", f"one server after the other, by `{fill(serve, {})[0]}`"


def _reached(way: Way, rows: Sequence[str]) -> tuple[Literal["ok", "note"], str]:
    door = way.door()
    listed = door.models(_ASIDE)
    if isinstance(listed, str):
        return "note", f"{door.url}: {listed}; it must run when the rows are asked"
    shown = ", ".join(f"`{name}`" for name in sorted(listed)[:_SHOWN])
    lacking = [row for row in rows if listed and way.served_name(row) not in listed]
    if lacking:
        names = ", ".join(f"`{way.served_name(row)}`" for row in lacking)
        return "note", f"{door.url} has {shown}; it must have {names} when the rows are asked"
    return "ok", f"{door.url}" + (f" has {shown}" if listed else " is there")

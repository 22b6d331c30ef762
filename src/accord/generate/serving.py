"""A server for one model: a command of the user's, started on a free port and stopped again.

The command runs on a leash (`leash`), so it ends with this process, however that ends. What it
prints goes into a log file.
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from accord.errors import InputError, RunError
from accord.generate import leash
from accord.generate.logs import tail
from accord.generate.served import WHERE, Door

FIELDS = ("folder", "name", "port")
GRACE = 20.0  # seconds that a server has to end in
_POLL = 0.2  # seconds between two looks at a server that is starting
_DYING = 3.0  # seconds until the end of one that answers no more is known


def fill(command: str, values: Mapping[str, str]) -> list[str]:
    """The words of a command with `{folder}`, `{name}` and `{port}` filled in.

    Only these: the JSON of other options has braces too. Raises InputError for a command that
    lacks one, has a key in it, cannot be split, or is no program here.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"{WHERE}.serve: cannot be split into words: {error}") from None
    lacking = [f"{{{field}}}" for field in FIELDS if f"{{{field}}}" not in command]
    if lacking:
        raise InputError(
            f"{WHERE}.serve: has no {' and no '.join(lacking)}; write it where the server's "
            "command takes the model's folder, the name it serves it by, and the port"
        )
    if any(word.partition("=")[0] == "--api-key" for word in words):
        raise InputError(
            f"{WHERE}.serve: --api-key puts a key into a file; set the server's variable in the "
            "environment (VLLM_API_KEY, LLAMA_API_KEY) and name it in api_key_env"
        )
    for field, value in values.items():
        words = [word.replace(f"{{{field}}}", value) for word in words]
    if shutil.which(words[0]) is None:
        raise InputError(f"{WHERE}.serve: there is no program `{words[0]}` here; install it")
    return words


@contextmanager
def serving(
    command: str,
    *,
    folder: str,
    name: str,
    log: Path,
    api_key_env: str | None,
    start_timeout: float,
) -> Iterator[tuple[Door, Callable[[], str]]]:
    """The door of a server that has loaded the model, and what is wrong with it, if it has ended.

    Raises RunError with the end of the log if it ends, or is not ready within `start_timeout`
    seconds.
    """
    port = _free_port()
    words = fill(command, {"folder": folder, "name": name, "port": str(port)})
    door = Door(f"http://127.0.0.1:{port}/v1", api_key_env)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = _start(words, output)
        try:
            _wait(door, process, name, log, start_timeout)
            yield door, lambda: _trouble(process, name, log, _DYING)
        finally:
            _stop(process)


def _start(words: list[str], output: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", str(leash.__file__), str(GRACE), *words],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def _trouble(
    process: "subprocess.Popen[bytes]", name: str, log: Path, patience: float = 0.0
) -> str:
    """How the server ended; nothing if it has not."""
    try:
        code = process.wait(patience)
    except subprocess.TimeoutExpired:
        return ""
    return f"{WHERE}.serve: the server of `{name}` ended with exit code {code}; {tail(log)}"


def _wait(
    door: Door, process: "subprocess.Popen[bytes]", name: str, log: Path, seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while not door.is_ready():
        if found := _trouble(process, name, log):
            raise RunError(found)
        if time.monotonic() > deadline:
            raise RunError(
                f"{WHERE}.serve: the server of `{name}` is not ready after {seconds:g} seconds; "
                f"raise {WHERE}.start_timeout, or see {tail(log)}"
            )
        time.sleep(_POLL)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the leash's input, and with it the server; wait until its memory is free."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(GRACE + 10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

"""A vLLM engine in a process of its own: when the process ends, so does all it holds of the GPU.

vLLM gives a GPU's memory back for certain only at the end of its process, so each row gets one.
What it prints goes into a log file, and it ends with the process that started it.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from accord.errors import RunError
from accord.generate.logs import tail
from accord.generate.plain import Said

_GRACE = 30.0  # seconds for an engine that has nothing left to do
# Without processes of its own the engine's schedule, and so every batch, is the same each time
# (vLLM's documentation, "Reproducibility").
_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}


class Engine:
    """`arguments` are those of vllm.LLM. A context manager; RunError if the process ends early."""

    def __init__(self, arguments: Mapping[str, Any], model: str, log: Path) -> None:
        self.model, self.log = model, log
        log.parent.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(theirs, dict(arguments), str(log)))
        self._process.start()
        theirs.close()  # so that this end notices when the process ends

    def decode(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, ends: Sequence[int]
    ) -> list[Said]:
        """Greedy answers to prompts (token ids), in their order."""
        try:
            self._pipe.send(([list(prompt) for prompt in prompts], max_new_tokens, list(ends)))
            found = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join(_GRACE)
            raise RunError(
                f"generate: vLLM ended while `{self.model}` was loaded or asked (exit code "
                f"{self._process.exitcode}); what came before is kept; {tail(self.log)}"
            ) from None
        return [Said(tokens, ended) for tokens, ended in found]

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        if kind is None:
            self._process.join(_GRACE)
        _kill_group(self._process.pid)
        self._process.kill()  # where it had not yet made a group of its own
        self._process.join()


def _kill_group(leader: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        if leader is not None:
            os.killpg(leader, signal.SIGKILL)


def _work(pipe: Connection, arguments: dict[str, Any], log: str) -> None:
    """The process: loads the model, then answers what comes through the pipe until that ends."""
    os.setsid()  # what it starts can be ended with it, and no interrupt of a terminal reaches it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm import LLM, SamplingParams

    llm = LLM(**arguments)
    with contextlib.suppress(EOFError):
        while True:
            prompts, max_tokens, ends = pipe.recv()
            greedy = SamplingParams(
                temperature=0.0, max_tokens=max_tokens, stop_token_ids=ends, detokenize=False
            )
            # A chunk must not depend on what was decoded before it, or in an earlier run.
            llm.reset_prefix_cache()
            asked = [{"prompt_token_ids": ids} for ids in prompts]
            found = [one.outputs[0] for one in llm.generate(asked, greedy, use_tqdm=False)]
            pipe.send([_until(list(one.token_ids), set(ends)) for one in found])


def _until(tokens: list[int], ends: set[int]) -> tuple[list[int], bool]:
    """The tokens before the one that ended the answer, and whether there is one."""
    at = next((i for i, token in enumerate(tokens) if token in ends), None)
    return (tokens, False) if at is None else (tokens[:at], True)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _kill_group(os.getpid())

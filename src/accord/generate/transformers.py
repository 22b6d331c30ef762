"""Greedy decoding by transformers, each beginning that prompts share computed once.

On a CPU: worker processes of one thread each, because two threads in one process collapse beside
any other load. On a GPU: in this process.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from accord.config import Prompt
from accord.errors import RunError
from accord.generate.request import Job, Reply, kept, unkept
from accord.models.answers import AnswerCache
from accord.registry import register

if TYPE_CHECKING:
    from accord.generate.prompting import Asked


@dataclass(frozen=True)
class _Decoding:
    """How to decode; the same for every batch."""

    dtype: str
    max_new_tokens: int
    end: int


@dataclass(frozen=True)
class _Batch:
    """Groups of prompts that are decoded together, by one model; `key` names it in the cache."""

    model: str
    repeat: int
    folder: str
    groups: tuple[tuple["Asked", ...], ...]
    key: str

    @property
    def asked(self) -> list["Asked"]:
        """The requests in order."""
        return [one for group in self.groups for one in group]

    def answer_key(self, one: "Asked") -> str:
        """The name of an answer in the cache."""
        return f"{self.key}-{one.id}"


class _Answered(NamedTuple):
    """A batch's answers in its order, each with whether it ended; `plain` as in Reply."""

    answers: list[tuple[str, bool]]
    plain: bool


@register("backends", "transformers")
def transformers(
    jobs: Sequence[Job],
    *,
    prompt: Prompt,
    max_new_tokens: int,
    cache: AnswerCache,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    batch_size: Annotated[int, Field(ge=1)] = 128,
    batch_tokens: Annotated[int, Field(ge=1)] = 24_576,
    workers: Annotated[int, Field(ge=1)] | None = None,
) -> Iterator[Reply]:
    """Local models by transformers: worker processes on a CPU, this process on a GPU.

    `batch_size` and `batch_tokens` bound a batch: prompts, and tokens whose keys and values are
    held at once.
    """
    from accord.models.base import device

    batches, how = _plan(jobs, prompt, max_new_tokens, dtype, (batch_size, batch_tokens))
    todo = []
    for batch in batches:
        known = [cache.known.get(batch.answer_key(one)) for one in batch.asked]
        if all(text is not None for text in known):
            yield from _replies(batch, [unkept(str(text)) for text in known], False)
        else:
            todo.append(batch)
    done: Iterator[tuple[_Batch, _Answered]]
    if device() == "cuda":
        done = ((batch, _decode(batch, how)) for batch in todo)
    else:
        done = _in_workers(todo, how, workers or usable_cores())
    for batch, (answers, plain) in done:
        for one, answer in zip(batch.asked, answers, strict=True):
            if (key := batch.answer_key(one)) not in cache.known:
                cache.add(key, kept(*answer))
        yield from _replies(batch, answers, plain)
    _load.cache_clear()


def _replies(batch: _Batch, answers: Sequence[tuple[str, bool]], plain: bool) -> Iterator[Reply]:
    for one, (text, ended) in zip(batch.asked, answers, strict=True):
        yield Reply(batch.model, batch.repeat, one.id, text, one.cut, ended, plain)


def usable_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plan(
    jobs: Sequence[Job], prompt: Prompt, max_new_tokens: int, dtype: str, sizes: tuple[int, int]
) -> tuple[list[_Batch], _Decoding]:
    """Tokenise once and batch by passages; models of one run share a tokenizer.

    `sizes`: prompts and tokens of a batch at most.
    """
    from accord.generate.prompting import Prompts, in_company
    from accord.generate.tree import Size, held_tokens, size_of
    from accord.models.base import device

    builder = Prompts(Path(jobs[0].folder), prompt, max_new_tokens)
    how = _Decoding(dtype, max_new_tokens, builder.end)
    versions = [version("torch"), version("transformers"), device()]
    size, most = sizes

    known: dict[tuple[str, ...], Size] = {}

    def measured(group: "list[Asked]") -> Size:
        key = tuple(one.id for one in group)
        if key not in known:
            known[key] = size_of([one.ids for one in group])
        return known[key]

    def fits(groups: "list[list[Asked]]") -> bool:
        return held_tokens([measured(group) for group in groups], max_new_tokens) <= most

    batches = []
    for job in jobs:
        built = {one.id: builder.build(one) for one in job.requests}
        for groups in in_company(job, built, size, fits):
            prompts = [[one.ids for one in group] for group in groups]
            said = [job.weights, job.repeat, dtype, max_new_tokens, how.end, versions, prompts]
            key = hashlib.sha256(json.dumps(said).encode()).hexdigest()
            batches.append(_Batch(job.model, job.repeat, job.folder, groups, key))
    return batches, how


def _in_workers(
    batches: Sequence[_Batch], how: _Decoding, workers: int
) -> Iterator[tuple[_Batch, _Answered]]:
    if not batches:
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        futures: dict[Future[_Answered], _Batch] = {
            pool.submit(_decode, batch, how): batch for batch in batches
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        fewer = f"generate.workers below {workers} or " if workers > 1 else ""
        raise RunError(
            "generate: a worker process was killed, most likely for want of memory; "
            f"set {fewer}a smaller generate.batch_size and run again"
        ) from None
    finally:
        # An interrupt must not wait for batches that are being decoded.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)


def _start_worker() -> None:
    from accord.models.base import set_threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker must not outlive a killed run: it would hold a model's worth of memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@lru_cache(maxsize=1)
def _load(folder: str, dtype: str) -> tuple[Any, Any, bool]:
    """(model, tokenizer, whether its prefixes can be shared)."""
    from transformers import GenerationConfig

    from accord.generate.shared_prefix import can_share
    from accord.models.base import load_model, load_tokenizer

    model = load_model(Path(folder), dtype)
    model.eval()
    # Penalties or sampling that a model ships with would make rows incomparable.
    model.generation_config = GenerationConfig()
    return model, load_tokenizer(Path(folder)), can_share(model)


def _decode(batch: _Batch, how: _Decoding) -> _Answered:
    from accord.generate import plain, shared_prefix

    model, tokenizer, shared = _load(batch.folder, how.dtype)
    ends = frozenset({how.end, tokenizer.eos_token_id} - {None})
    groups = [[one.ids for one in group] for group in batch.groups]
    if shared:
        said = shared_prefix.decode(model, groups, max_new_tokens=how.max_new_tokens, ends=ends)
    else:
        prompts = [ids for group in groups for ids in group]
        said = plain.decode(
            model, prompts, how.max_new_tokens, ends=ends, pad=tokenizer.pad_token_id
        )
    texts = tokenizer.batch_decode([one.tokens for one in said], skip_special_tokens=True)
    ended = [one.ended for one in said]
    return _Answered(list(zip(map(str.strip, texts), ended, strict=True)), not shared)

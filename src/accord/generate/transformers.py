"""Greedy decoding by transformers.

On a CPU: worker processes of one thread each, because two threads in one process collapse beside
any other load. On a GPU: in this process. Which prompts share a batch is decided before the first
is decoded and depends on their lengths alone, so a kill and resume changes no answer.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from accord.config import Prompt
from accord.errors import RunError
from accord.generate.request import Job, Reply
from accord.registry import register


@dataclass(frozen=True)
class _Batch:
    """Prompts that are decoded together, by one model."""

    model: str
    folder: str
    ids: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]
    cut: tuple[bool, ...]


@dataclass(frozen=True)
class _Decoding:
    """How to decode; the same for every batch."""

    dtype: str
    max_new_tokens: int
    end: int


@register("backends", "transformers")
def transformers(
    jobs: Sequence[Job],
    *,
    prompt: Prompt,
    max_new_tokens: int,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    batch_size: Annotated[int, Field(ge=1)] = 16,
    workers: Annotated[int, Field(ge=1)] | None = None,
) -> Iterator[Reply]:
    """Local models by transformers: worker processes on a CPU, this process on a GPU."""
    from accord.models.base import device

    batches, end = _plan(jobs, prompt, max_new_tokens, batch_size)
    how = _Decoding(dtype, max_new_tokens, end)
    if device() == "cuda":
        for batch in batches:
            yield from _decode(batch, how)
        _load.cache_clear()
    else:
        yield from _in_workers(batches, how, workers or usable_cores())


def usable_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plan(
    jobs: Sequence[Job], prompt: Prompt, max_new_tokens: int, batch_size: int
) -> tuple[list[_Batch], int]:
    """Tokenise once and batch by length; models of one run share a tokenizer."""
    from transformers import AutoConfig

    from accord.models.base import load_tokenizer, window
    from accord.models.prompt import Prompter

    folder = Path(jobs[0].folder)
    prompter = Prompter(load_tokenizer(folder), prompt.template)
    room = window(AutoConfig.from_pretrained(folder, local_files_only=True)) - max_new_tokens
    budget = min(room, prompt.max_tokens or room)
    built = [(r.id, prompter.build(r.id, r.query, r.passages, budget)) for r in jobs[0].requests]
    built.sort(key=lambda pair: (len(pair[1].ids), pair[0]))
    groups = [built[i : i + batch_size] for i in range(0, len(built), batch_size)]
    batches = [
        _Batch(
            job.model,
            job.folder,
            tuple(name for name, _ in group),
            tuple(p.ids for _, p in group),
            tuple(p.cut for _, p in group),
        )
        for job in jobs
        for group in reversed(groups)  # the longest first: workers then end together
    ]
    return batches, prompter.end


def _in_workers(batches: Sequence[_Batch], how: _Decoding, workers: int) -> Iterator[Reply]:
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        futures: list[Future[list[Reply]]] = [pool.submit(_decode, b, how) for b in batches]
        for future in futures:
            yield from future.result()
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
def _load(folder: str, dtype: str) -> tuple[Any, Any]:
    from transformers import GenerationConfig

    from accord.models.base import load_model, load_tokenizer

    model = load_model(Path(folder), dtype)
    model.eval()
    # Penalties or sampling that a model ships with would make rows incomparable.
    model.generation_config = GenerationConfig()
    return model, load_tokenizer(Path(folder))


def _decode(batch: _Batch, how: _Decoding) -> list[Reply]:
    import torch
    from transformers import GenerationConfig

    from accord.models.losses import pad_left

    model, tokenizer = _load(batch.folder, how.dtype)
    ends = {how.end, tokenizer.eos_token_id} - {None}
    ids = pad_left([list(p) for p in batch.prompts], tokenizer.pad_token_id).to(model.device)
    mask = pad_left([[1] * len(p) for p in batch.prompts], 0).to(model.device)
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=how.max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.inference_mode():
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=greedy)
    texts = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
    return [
        Reply(batch.model, name, text.strip(), cut)
        for name, text, cut in zip(batch.ids, texts, batch.cut, strict=True)
    ]

"""Greedy decoding by vLLM in processes of our own, one for each row: no server, no network.

The prompts are token ids, exactly those that transformers is given. They go in chunks that are
planned beforehand; a chunk is decoded whole, or taken whole from the cache, so that a run that was
killed gives each prompt the company it would have had.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from accord.config import Prompt
from accord.errors import InputError
from accord.generate.request import Job, Reply, kept, unkept
from accord.models.answers import AnswerCache
from accord.registry import register

if TYPE_CHECKING:
    from accord.generate.engine import Engine
    from accord.generate.prompting import Asked, Prompts

_OURS = {"dtype", "enable_prefix_caching", "generation_config", "gpu_memory_utilization"}
_OURS |= {"max_model_len", "model", "seed", "tensor_parallel_size", "tokenizer"}


class _Chunk(NamedTuple):
    """Prompts that go to the engine together; `key` names the chunk in the cache."""

    job: Job
    asked: tuple["Asked", ...]
    key: str

    def replies(self, answers: Sequence[tuple[str, bool]]) -> Iterator[Reply]:
        """The replies, given (answer, ended) of each prompt."""
        for one, (answer, ended) in zip(self.asked, answers, strict=True):
            yield Reply(self.job.model, self.job.repeat, one.id, answer, one.cut, ended)


@register("backends", "vllm")
def vllm(
    jobs: Sequence[Job],
    *,
    prompt: Prompt,
    max_new_tokens: int,
    cache: AnswerCache,
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9,
    max_model_len: Annotated[int, Field(ge=64)] | None = None,
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1,
    chunk_size: Annotated[int, Field(ge=1)] = 1024,
    engine: dict[str, Any] | None = None,
) -> Iterator[Reply]:
    """vLLM in a process of our own for each row; `engine`: further arguments of vllm.LLM."""
    check_vllm(engine or {})
    from accord.generate.engine import Engine
    from accord.generate.logs import log_of
    from accord.generate.prompting import Prompts, by_row
    from accord.models.base import give_memory_back

    prompts = Prompts(Path(jobs[0].folder), prompt, max_new_tokens, max_model_len)
    settings = {"dtype": dtype, "tensor_parallel_size": tensor_parallel_size, **(engine or {})}
    for row in by_row(jobs):
        todo = []
        for chunk in _plan(row, prompts, settings, max_new_tokens, chunk_size):
            known = [cache.known.get(f"{chunk.key}-{one.id}") for one in chunk.asked]
            if all(text is not None for text in known):
                yield from chunk.replies([unkept(str(text)) for text in known])
            else:
                todo.append(chunk)
        if not todo:
            continue
        arguments = {
            **settings,
            "model": row[0].folder,
            "max_model_len": max_model_len or _longest(row, prompts) + max_new_tokens,
            "gpu_memory_utilization": gpu_memory_utilization,
            "enable_prefix_caching": True,
            "generation_config": "vllm",  # not the model's: its penalties differ from row to row
            "seed": 0,
        }
        give_memory_back()
        log = log_of(cache.path, row[0].model, "vllm")
        with Engine(arguments, row[0].model, log) as running:
            for chunk in todo:
                yield from chunk.replies(_decode(chunk, running, prompts, max_new_tokens, cache))


def check_vllm(engine: Mapping[str, Any]) -> None:
    """Raise InputError if vLLM is not installed, or `engine` sets what has an option of its own."""
    if importlib.util.find_spec("vllm") is None:
        raise InputError(
            'generate.backend: vllm needs `pip install "accord[vllm]"`; with backend: openai and '
            "serve, a vLLM of another environment answers"
        )
    for name in sorted(engine.keys() & _OURS):
        raise InputError(
            f"generate.engine: `{name}` is an option of the backend, or the same for every run; "
            "take it out"
        )


def _plan(
    row: Sequence[Job],
    prompts: "Prompts",
    settings: Mapping[str, Any],
    max_new_tokens: int,
    size: int,
) -> Iterator[_Chunk]:
    from accord.generate.prompting import in_company

    versions = [version(name) for name in sorted({*packages_distributions().get("vllm", [])})]
    for job in row:
        built = {one.id: prompts.build(one) for one in job.requests}
        for groups in in_company(job, built, size):
            asked = tuple(one for group in groups for one in group)
            ids = [one.ids for one in asked]
            said = [job.weights, "vllm", versions, settings, max_new_tokens, prompts.ends]
            said += [job.repeat, ids]
            key = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
            yield _Chunk(job, asked, key.hexdigest())


def _longest(row: Sequence[Job], prompts: "Prompts") -> int:
    """Tokens of the longest prompt. An engine that may see no longer one needs less memory."""
    return max(len(prompts.build(one).ids) for job in row for one in job.requests)


def _decode(
    chunk: _Chunk, engine: "Engine", prompts: "Prompts", max_new_tokens: int, cache: AnswerCache
) -> list[tuple[str, bool]]:
    """(answer, ended) of each prompt; kept before anybody sees them."""
    said = engine.decode([one.ids for one in chunk.asked], max_new_tokens, prompts.ends)
    texts = prompts.tokenizer.batch_decode([one.tokens for one in said], skip_special_tokens=True)
    answers = [(text.strip(), one.ended) for text, one in zip(texts, said, strict=True)]
    for one, answer in zip(chunk.asked, answers, strict=True):
        if (key := f"{chunk.key}-{one.id}") not in cache.known:
            cache.add(key, kept(*answer))
    return answers

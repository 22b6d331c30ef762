"""The sixth stage: one answer for each model and wording."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.config import Prompt
from accord.errors import RunError
from accord.generate.request import Job, Reply, Request
from accord.progress import SILENT, Progress
from accord.records import Answer, Passage, Wording, read_records, write_records
from accord.registry import component


def generate(
    models: Mapping[str, Path],
    wordings: Sequence[Wording],
    contexts: Mapping[str, Sequence[Passage]],
    out: Path,
    *,
    backend: str = "transformers",
    options: Mapping[str, Any] | None = None,
    prompt: Prompt | None = None,
    max_new_tokens: int = 128,
    key: str = "",
    progress: Progress = SILENT,
) -> tuple[list[Answer], list[str]]:
    """Ask every model every wording; a model answered earlier under the same `key` is kept.

    Args:
        models: model folders by name; answers come in this order.
        wordings: what is asked; answers come in this order within a model.
        contexts: the passages of each wording by id, best first.
        out: gets one file for each finished model, so that a kill loses at most one model.
        backend, options: which backend, and its options.
        prompt: the config's section.
        max_new_tokens: at most so many tokens an answer.
        key: what the answers depend on.

    Returns:
        The answers, and notes for the user.
    """
    requests = tuple(Request(w.id, w.query, tuple(contexts[w.id])) for w in wordings)
    parts = {name: _part(out, name, key) for name in models}
    todo = [Job(n, str(f), requests) for n, f in models.items() if not parts[n].is_file()]
    progress.start(len(models) * len(requests), "answers")
    progress.advance((len(models) - len(todo)) * len(requests))
    cut = 0
    if todo and requests:
        ask = component("backends", backend, "generate.backend").function
        replies = ask(
            todo, prompt=prompt or Prompt(), max_new_tokens=max_new_tokens, **options or {}
        )
        said: dict[str, dict[str, Reply]] = {job.model: {} for job in todo}
        for reply in replies:
            progress.advance(1, reply.model)
            by_id = said[reply.model]
            by_id[reply.id] = reply
            if len(by_id) == len(requests):  # at once: the next model may be killed
                write_records(parts[reply.model], _answers(reply.model, wordings, contexts, by_id))
        _require_all(said, wordings)
        cut = max(sum(reply.cut for reply in by_id.values()) for by_id in said.values())
    answers = [a for part in parts.values() if requests for a in read_records(part, Answer)]
    notes = [f"generation: passages were cut in {cut} prompts to fit the window"] if cut else []
    return answers, notes


def _part(out: Path, name: str, key: str) -> Path:
    digest = hashlib.sha256(json.dumps([name, key]).encode()).hexdigest()[:16]
    return out / "parts" / f"{name}-{digest}.jsonl"


def _require_all(said: Mapping[str, Mapping[str, Reply]], wordings: Sequence[Wording]) -> None:
    for name, replies in said.items():
        lost = [w.id for w in wordings if w.id not in replies]
        if lost:
            raise RunError(f"generate: {name} gave no answer to `{lost[0]}` ({len(lost)} lost)")


def _answers(
    name: str,
    wordings: Sequence[Wording],
    contexts: Mapping[str, Sequence[Passage]],
    replies: Mapping[str, Reply],
) -> list[Answer]:
    return [
        Answer.model_validate(
            {
                "model": name,
                "id": w.id,
                "original_id": None if w.type is None else w.original_id,
                "type": w.type,
                "query": w.query,
                "answer": replies[w.id].answer,
                "passages": [p.id for p in contexts[w.id]],
                "contexts": "own",
                "repeat": 0,
            }
        )
        for w in wordings
    ]

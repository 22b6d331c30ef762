"""The sixth stage: an answer for each row, wording and kind of contexts."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.config import Prompt
from accord.errors import RunError
from accord.generate.request import Job, Reply, Request
from accord.generate.rows import Ask, Row, answer, request_of
from accord.models.answers import AnswerCache
from accord.progress import SILENT, Progress
from accord.records import Answer
from accord.registry import component

_Key = tuple[str, int, str]  # model, repeat, request


def generate(
    rows: Mapping[str, Row],
    cache: Path,
    *,
    fingerprint: Callable[[Path], str],
    backend: str = "transformers",
    options: Mapping[str, Any] | None = None,
    prompt: Prompt | None = None,
    max_new_tokens: int = 128,
    repeat: int = 1,
    progress: Progress = SILENT,
) -> tuple[list[Answer], list[str]]:
    """Ask every model all that its rows ask; what the cache knows is not asked again.

    Args:
        rows: the rows of the table by name. What several of one model ask alike is asked once.
        cache: the file that keeps answers, so that a kill loses none that was finished.
        fingerprint: the content hash of a model folder.
        backend, options: which backend, and its options.
        prompt: the config's section.
        max_new_tokens: at most so many tokens an answer.
        repeat: how many times all is asked.

    Returns:
        The answers, by row, repeat, then as asked; and notes for the user.

    Raises RunError where a model answered nothing, or a request was lost.
    """
    jobs, keys = _jobs(rows, fingerprint, repeat)
    progress.start(sum(len(job.requests) for job in jobs), "answers")
    replies: dict[_Key, Reply] = {}
    if jobs:
        ask = component("backends", backend, "generate.backend").function
        held = AnswerCache(cache)
        settings = {"prompt": prompt or Prompt(), "max_new_tokens": max_new_tokens, "cache": held}
        try:
            for reply in ask(jobs, **settings, **options or {}):
                progress.advance(1, reply.model)
                replies[reply.model, reply.repeat, reply.id] = reply
        finally:
            held.close()
    _require_all(jobs, replies)
    answers = [
        answer(name, asked, found.answer, found.ended, found.repeat)
        for name, asked, key in keys
        if not (found := replies[key]).failed
    ]
    return answers, list(_notes(jobs, replies))


def _jobs(
    rows: Mapping[str, Row], fingerprint: Callable[[Path], str], repeat: int
) -> tuple[list[Job], list[tuple[str, Ask, _Key]]]:
    """Distinct requests by model and repeat, and where the answer to each ask will be found."""
    models: dict[Path, str] = {}
    wanted: dict[str, dict[str, Request]] = {}
    keys = []
    for name, row in rows.items():
        model = models.setdefault(row.folder, name)
        made = [(a, request_of(a)) for a in row.asks]
        for _, one in made:
            wanted.setdefault(model, {}).setdefault(one.id, one)
        keys += [(name, a, (model, n, one.id)) for n in range(repeat) for a, one in made]
    jobs = [
        Job(model, str(folder), fingerprint(folder), n, tuple(wanted[model].values()))
        for folder, model in models.items()
        if model in wanted
        for n in range(repeat)
    ]
    return jobs, keys


def _require_all(jobs: Sequence[Job], replies: Mapping[_Key, Reply]) -> None:
    for job in jobs:
        own = [replies.get((job.model, job.repeat, one.id)) for one in job.requests]
        lost = [one.name for one, reply in zip(job.requests, own, strict=True) if reply is None]
        if lost:
            raise RunError(
                f"generate: {job.model} gave no answer to `{lost[0]}` ({len(lost)} lost)"
            )
        failed = [reply.failed for reply in own if reply is not None and reply.failed]
        if failed and len(failed) == len(own):
            why = Counter(failed).most_common(1)[0][0]
            raise RunError(f"generate: {job.model} gave no answer at all: {why}")


def _notes(jobs: Sequence[Job], replies: Mapping[_Key, Reply]) -> Iterator[str]:
    """What a reader must know of the answers, each with its number."""
    every = list(replies.values())
    cut = len({reply.id for reply in every if reply.cut})
    if cut:
        yield f"generation: passages were cut in {cut} prompts to fit the window"
    endless = Counter(reply.model for reply in every if not reply.ended and not reply.failed)
    if endless:
        shown = ", ".join(f"{model} {count}" for model, count in endless.items())
        yield f"generation: answers cut at generate.max_new_tokens: {shown}"
    for model in sorted({reply.model for reply in every if reply.plain}):
        yield f"generation: {model} was decoded without shared prefixes, which its attention lacks"
    names = {one.id: one.name for job in jobs for one in job.requests}
    for model in dict.fromkeys(job.model for job in jobs):
        failed = [reply for reply in every if reply.model == model and reply.failed]
        if failed:
            reasons = Counter(reply.failed for reply in failed).most_common()
            shown = ", ".join(f"{count} {reason}" for reason, count in reasons)
            yield (
                f"generation: {model}: {len(failed)} answers are missing ({shown}; first: "
                f"`{names[failed[0].id]}`); --force generate asks for them again, and only for them"
            )

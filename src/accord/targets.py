"""What is learned where a question has no reference answer: the base model's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from accord.generate.rows import Ask, Row
from accord.generate.stage import generate
from accord.progress import Progress
from accord.records import Wording, write_records
from accord.train.plan import has_answer
from accord.work import Work


def self_targets(
    work: Work, asked: Sequence[Wording], out: Path, progress: Progress
) -> tuple[dict[str, str], list[str]]:
    """The base model's answer to each question that has none, by id; kept in targets.jsonl."""
    config = work.config
    contexts = work.contexts()
    silent = [w for w in asked if w.type is None and not has_answer(w)]
    row = Row(work.base, tuple(Ask(w, w.query, tuple(contexts[w.id])) for w in silent))
    answers, notes = generate(
        {"B": row} if silent else {},
        work.run.folder / "answers.cache.jsonl",
        fingerprint=work.run.hash_folder,
        backend=config.generate.backend,
        options=config.generate.options,
        prompt=config.prompt,
        max_new_tokens=config.generate.max_new_tokens,
        progress=progress,
    )
    write_records(out / "targets.jsonl", answers)
    said = {a.id: a.answer for a in answers if a.answer.strip()}
    text = f"train: the base model's own answer is the target of {len(said)} questions without one"
    return said, [f"{text} (targets.jsonl)", *notes]


def with_targets(asked: Sequence[Wording], targets: Mapping[str, str]) -> list[Wording]:
    """The wordings, with `target: self` and the base model's answer where they have none."""
    return [
        w
        if has_answer(w) or w.original_id not in targets
        else w.model_copy(update={"answer": targets[w.original_id], "target": "self"})
        for w in asked
    ]

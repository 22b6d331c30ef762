"""The first stage: variations of every question, by the kinds the config names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from accord.progress import SILENT, Progress
from accord.records import Question, Skipped, Variation
from accord.registry import component
from accord.vary import pipeline
from accord.vary.outcome import Rewording, Skip, changed


def vary(
    questions: Sequence[Question],
    types: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    frozen: Sequence[Variation] = (),
    max_per_question: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[list[Variation], list[Skipped]]:
    """Make the variations of `questions`, and list every one that was not made with its reason.

    Args:
        questions: what to reword.
        types: (name, options) of each kind of variation, in order.
        frozen: variations used as they are; a kind that a question has frozen is not made anew.
        max_per_question: keep at most so many variations of a question, taking the kinds in turn.
        seed: the same seed gives the same variations, whatever the order of the questions.
        progress: told of every question and kind.

    Returns:
        Variations in the order of the questions, and the skipped ones.
    """
    made: dict[str, dict[str, list[Variation]]] = {q.id: {} for q in questions}
    for v in frozen:
        if v.original_id in made:
            made[v.original_id].setdefault(v.type, []).append(v)
    skipped: list[Skipped] = []
    progress.start(len(questions) * len(types), "questions x kinds")
    # In batches, so that all kinds share the parses of a batch.
    for start in range(0, len(questions), pipeline.KEPT):
        for name, options in types:
            _make(
                questions[start : start + pipeline.KEPT],
                name,
                options,
                made,
                skipped,
                seed,
                progress,
            )
    kept = [v for q in questions for v in _keep(q, made[q.id], max_per_question, skipped.append)]
    return kept, sorted(skipped, key=_order(questions))


def _make(
    questions: Sequence[Question],
    name: str,
    options: Mapping[str, Any],
    made: dict[str, dict[str, list[Variation]]],
    skipped: list[Skipped],
    seed: int,
    progress: Progress,
) -> None:
    """Add the variations of one kind to `made`, and those that were not made to `skipped`."""
    todo = [q for q in questions if name not in made[q.id]]
    progress.advance(len(questions) - len(todo), name)
    maker = component("variations", name, "vary.types").function
    for question, outcome in _paired(todo, maker(todo, seed=seed, **options)):
        progress.advance(1, name)
        if isinstance(outcome, Skip):
            skipped.append(_skip(question, name, outcome.reason))
        else:
            made[question.id][name] = _variations(question, name, outcome, seed)


def _paired(
    questions: Sequence[Question], outcomes: Iterator[list[Rewording] | Skip]
) -> Iterator[tuple[Question, list[Rewording] | Skip]]:
    return zip(questions, outcomes, strict=True)


def _variations(
    question: Question, name: str, outcome: list[Rewording], seed: int
) -> list[Variation]:
    return [
        Variation.model_validate(
            {
                "id": f"{question.id}~{name}~{number}",
                "original_id": question.id,
                "type": name,
                "query": rewording.query,
                **_provenance(question.query, rewording),
                "seed": seed,
            }
        )
        for number, rewording in enumerate(outcome)
    ]


def _provenance(source: str, made: Rewording) -> dict[str, object]:
    """Operator, span [start, end) in the source, and the text there before and after."""
    if not (made.before or made.after):  # a component that leaves the span to us
        made = changed(made.operator, source, made.query)
    end = made.start + len(made.before)
    return {
        "operator": made.operator,
        "span": [made.start, end],
        "before": made.before,
        "after": made.after,
    }


def _keep(
    question: Question,
    by_type: Mapping[str, Sequence[Variation]],
    limit: int | None,
    skip: Callable[[Skipped], None],
) -> list[Variation]:
    """Drop repeats, then take one of each kind in turn until `limit`."""
    seen = {question.query}
    rounds = max((len(vs) for vs in by_type.values()), default=0)
    kept: list[Variation] = []
    for turn in range(rounds):
        for name, variations in by_type.items():
            if turn >= len(variations):
                continue
            v = variations[turn]
            if v.query in seen:
                skip(_skip(question, name, "the same string as another wording"))
            elif limit is not None and len(kept) >= limit:
                skip(_skip(question, name, f"more than max_per_question = {limit}"))
            else:
                seen.add(v.query)
                kept.append(v)
    return kept


def _skip(question: Question, name: str, reason: str) -> Skipped:
    return Skipped(original_id=question.id, type=name, reason=reason)


def _order(questions: Sequence[Question]) -> Callable[[Skipped], tuple[int, str, str]]:
    place = {q.id: number for number, q in enumerate(questions)}
    return lambda s: (place[s.original_id], s.type, s.reason)

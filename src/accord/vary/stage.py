"""The first stage: variations of every question, by the kinds the config names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

from accord.errors import InputError
from accord.progress import SILENT, Progress
from accord.records import Question, Skipped, Variation
from accord.registry import component
from accord.vary import pipeline
from accord.vary.outcome import Encode, Outcome, Rejected, Rewording, Skip, changed


def vary(
    questions: Sequence[Question],
    types: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    frozen: Sequence[Variation] = (),
    max_per_question: int | None = None,
    seed: int = 0,
    encode: Encode | None = None,
    progress: Progress = SILENT,
) -> tuple[list[Variation], list[Skipped]]:
    """Make the variations of `questions`, and list every one that was not made with its reason.

    Args:
        questions: what to reword.
        types: (name, options) of each kind of variation, in order.
        frozen: variations used as they are; a kind that a question has frozen is not made anew.
        max_per_question: keep at most so many variations of a question, taking the kinds in turn.
        seed: the same seed gives the same variations, whatever the order of the questions.
        encode: the run's sentence encoder, texts (N) to vectors (N, D), for kinds that check
            similarity.
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
    for question, name, outcome in _outcomes(questions, types, made, seed, encode):
        progress.advance(1, name)
        if isinstance(outcome, Skip):
            skipped.append(_skip(question, name, outcome.reason))
        elif outcome is not None:
            made[question.id][name] = _variations(question, name, outcome, seed)
            skipped += [_rejected(question, name, r) for r in outcome if isinstance(r, Rejected)]
    kept = [v for q in questions for v in _keep(q, made[q.id], max_per_question, skipped.append)]
    return kept, sorted(skipped, key=_order(questions))


def _outcomes(
    questions: Sequence[Question],
    types: Sequence[tuple[str, Mapping[str, Any]]],
    frozen: Mapping[str, Mapping[str, Any]],
    seed: int,
    encode: Encode | None,
) -> Iterator[tuple[Question, str, Outcome | None]]:
    """What each kind makes of each question; None where it is frozen.

    The kinds take turns, a batch of questions at a time, so that all share the parses of a batch;
    each is called once, so that a model is loaded once and a budget is one for all questions.
    """
    if len({name for name, _ in types}) < len(types):
        raise InputError("vary.types: a kind stands twice; each is wanted once")
    open_ = {}
    for name, options in types:
        maker = component("variations", name, "vary.types").function
        todo = [q for q in questions if name not in frozen[q.id]]
        # The encoder is no option of a component but what the run gives to those that ask for it.
        given = {"encode": encode} if "encode" in signature(maker).parameters else {}
        open_[name] = (maker(todo, seed=seed, **given, **options), {q.id for q in todo})
    for start in range(0, len(questions), pipeline.BATCH):
        for name, (outcomes, todo_ids) in open_.items():
            for question in questions[start : start + pipeline.BATCH]:
                yield question, name, next(outcomes) if question.id in todo_ids else None


def _variations(
    question: Question, name: str, outcome: Sequence[Rewording | Rejected], seed: int
) -> list[Variation]:
    kept = [made for made in outcome if isinstance(made, Rewording)]
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
        for number, rewording in enumerate(kept)
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


def _rejected(question: Question, name: str, made: Rejected) -> Skipped:
    """A wording that was made and turned down, with its text."""
    return Skipped.model_validate(
        {
            "original_id": question.id,
            "type": name,
            "reason": made.reason,
            "query": made.query,
        }
    )


def _order(questions: Sequence[Question]) -> Callable[[Skipped], tuple[int, str, str]]:
    place = {q.id: number for number, q in enumerate(questions)}
    return lambda s: (place[s.original_id], s.type, s.reason)

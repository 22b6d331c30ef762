"""What must be known before the numbers are believed: warnings, and what was not scored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from accord.evaluate.answers import Entrant, Ints, Shared, use_of
from accord.evaluate.scoring import Metrics
from accord.records import Answer

FEW = 20  # questions; below, even the widened intervals cover less than they say


def warnings(shared: Shared, rows: Sequence[Entrant]) -> list[str]:
    """What must be known before an interval is believed."""
    found = []
    if len(shared.questions) < FEW:
        found.append(
            f"{_questions(len(shared.questions))}: with fewer than {FEW}, 95 % intervals cover the "
            "truth less often than they say"
        )
    single = sum(asked.type is None for asked in shared.wordings.values()) - len(
        set(shared.owner.tolist())
    )
    if single:
        found.append(
            f"{_questions(single)} without an answered variation: nothing is said on their "
            "consistency"
        )
    for row in rows:
        same = [label for label, own in row.seeds.items() if _is_copy(own, row, label)]
        if same:
            found.append(f"`{row.name}`: seed `{same[0]}` has the answers of another seed")
    return found


def _questions(count: int) -> str:
    return f"{count:,} question{'' if count == 1 else 's'}"


def _is_copy(own: Mapping[str, Answer], row: Entrant, label: str) -> bool:
    """Whether an earlier seed of the row said the very same."""
    texts = {id_: answer.answer for id_, answer in own.items()}
    earlier = list(row.seeds)[: list(row.seeds).index(label)]
    return any({i: a.answer for i, a in row.seeds[e].items()} == texts for e in earlier)


def described(chosen: Metrics) -> dict[str, Any]:
    """The metrics with their options and encoder, and what those that are not scored lack."""
    return {
        "encoder": chosen.resources.encoder,
        "accuracy": {name: dict(options) for name, options in chosen.accuracy.items()},
        "consistency": {name: dict(options) for name, options in chosen.consistency.items()},
        "unscored": {
            name: why
            for name in (*chosen.accuracy, *chosen.consistency)
            if (why := chosen.missing(name))
        },
    }


def set_aside(
    files: Mapping[str, Sequence[Answer]],
    rows: Sequence[Entrant],
    shared: Shared,
    held: Mapping[str, Ints],
) -> dict[str, Any]:
    """Answers that nothing is made of, those that only the noise is, and models without a row."""
    by_name = {row.name: row for row in rows}
    paired = {
        contexts: {ids[i] for ids in (shared.first, shared.second) for i in pairs}
        for contexts, pairs in held.items()
    }
    uses: Counter[str | None] = Counter()
    for answer in (answer for answers in files.values() for answer in answers):
        row, use = by_name.get(answer.model), use_of(answer)
        if use == "held":
            asked = row is not None and row.has(answer.contexts)
            use = use if asked and answer.id in paired.get(answer.contexts, ()) else None
        uses[use if row else None] += 1
    models = {answer.model for answers in files.values() for answer in answers}
    return {
        "answers": uses[None],
        "repeats": uses["repeats"],
        "models": sorted(models - set(by_name)),
    }

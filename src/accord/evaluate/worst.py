"""The questions a model answers least consistently, with what it said."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accord.evaluate.answers import Shared
from accord.evaluate.rows import Scored
from accord.evaluate.scoring import AREA

SHOWN = 5
LONGEST = 600  # characters of an answer


def worst_questions(
    own: Scored, shared: Shared, means: Sequence[str], *, shown: int = SHOWN
) -> list[dict[str, Any]]:
    """The questions whose wordings agree least, worst first; ties in the order of their ids.

    By the mean ROUGE-L F1 of all pairs of wordings (a rate such as RS would tie most questions);
    without it by the first metric that was scored. The answers are those of the first seed.
    """
    by = AREA if AREA in means else next(iter(means), None)
    if by is None or not len(shared.owner):
        return []
    scores = np.stack([seed.pairs[by] for seed in own.seeds.values()])
    known = ~np.isnan(scores)
    held = np.bincount(shared.owner, known.sum(axis=0), len(shared.questions))
    total = np.bincount(shared.owner, np.nansum(scores, axis=0), len(shared.questions))
    mean = np.divide(total, held, out=np.full(len(held), np.inf), where=held > 0)
    order = [i for i in np.argsort(mean, kind="stable")[:shown] if held[i]]
    answers = next(iter(own.row.seeds.values()))
    members: dict[int, list[str]] = {int(i): [] for i in order}
    for owner, a, b in zip(shared.owner.tolist(), shared.first, shared.second, strict=True):
        if owner in members:
            members[owner] += [id_ for id_ in (a, b) if id_ not in members[owner]]
    return [
        {
            "id": shared.questions[i],
            by: float(mean[i]),
            "reference": shared.references.get(shared.questions[i]),
            "answers": [
                {
                    "id": id_,
                    "type": shared.wordings[id_].type,
                    "query": shared.wordings[id_].query,
                    "answer": _cut(answers[id_].answer),
                }
                for id_ in members[int(i)]
            ],
        }
        for i in order
    ]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"

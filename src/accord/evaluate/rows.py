"""Every row's scores: its answers paired up, each distinct pair of texts scored once."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.evaluate.answers import CONTEXTS, Entrant, Ints, Shared, question_of
from accord.evaluate.distinct import Distinct, Triple
from accord.evaluate.held import plan_held
from accord.evaluate.metrics import Floats
from accord.evaluate.scoring import JUDGE, Metrics
from accord.records import Answer

_TOKEN = re.compile(r"[a-z0-9]")
RETRIEVAL = ("same", "reordered", "changed", "unknown")


@dataclass(frozen=True)
class SeedScores:
    """The scores of one row under one seed; NaN is unscored.

    `accuracy`: metric -> (n,), or (n, 10) for BLEU, over the questions with a reference.
    `pairs`: metric -> (G,) over `Shared`'s pairs; `texts` (G) are those pairs; `words` (G,) is the
    length of the longer answer; `retrieval` (G,) indexes RETRIEVAL: what became of the passages.
    `floor`: metric -> (F,) over the same wording asked twice; `floor_owner` (F,) is the question.
    `held`: `original`, `gold` (the passages held fixed) or `again` (asked again) -> metric -> (G,).
    """

    accuracy: Mapping[str, Floats]
    pairs: dict[str, Floats]
    texts: Sequence[Triple]
    words: Ints
    retrieval: Ints
    floor: Mapping[str, Floats]
    floor_owner: Ints
    held: Mapping[str, Mapping[str, Floats]]


@dataclass(frozen=True)
class Scored:
    """A row and its scores by seed."""

    row: Entrant
    seeds: Mapping[str, SeedScores]


def score_rows(
    rows: Sequence[Entrant],
    shared: Shared,
    metrics: Metrics,
    held: Mapping[str, Ints] | None = None,
) -> list[Scored]:
    """Score every row: accuracy against references, agreement of pairs, the noise floor.

    `held`: contexts -> the pairs to be scored with these passages too, as `held_pairs` finds them;
    None: nothing of the kind, nor the noise of each pair.
    """
    referenced, wordings = Distinct(), Distinct()
    owners = {id_: index for index, id_ in enumerate(shared.questions)}
    planned = []
    for row in rows:
        for label, own in row.seeds.items():
            against = [(own[q].answer, text, "") for q, text in shared.references.items()]
            pairs = _pairs(own, shared)
            again = [a for a in row.repeats.get(label, ()) if _takes_part(a, shared, owners)]
            floor = [(own[a.id].answer, a.answer, a.query) for a in again]
            owner = np.array([owners[shared.wordings[a.id].question] for a in again], np.intp)
            places = referenced.add(against), wordings.add(pairs), wordings.add(floor)
            plans = {} if held is None else plan_held(row, label, shared, held, wordings)
            planned.append((row.name, label, own, pairs, places, owner, plans))
    accurate = [name for name in metrics.accuracy if not metrics.missing(name)]
    referenced.score(metrics, accurate)
    wordings.score(metrics, metrics.means)
    seeds: dict[str, dict[str, SeedScores]] = {row.name: {} for row in rows}
    for name, label, own, pairs, (against_at, pairs_at, floor_at), owner, plans in planned:
        size = len(pairs)
        seeds[name][label] = SeedScores(
            referenced.take(against_at, accurate),
            wordings.take(pairs_at, metrics.means),
            pairs,
            np.array([max(len(a.split()), len(b.split())) for a, b, _ in pairs], np.intp),
            _retrieval(own, shared),
            wordings.take(floor_at, metrics.means),
            owner,
            {what: plan.scores(wordings, metrics.means, size) for what, plan in plans.items()},
        )
    if metrics.resources.judge is not None:
        _judge([own for row in seeds.values() for own in row.values()], shared, metrics)
    return [Scored(row, seeds[row.name]) for row in rows]


def _judge(every: Sequence[SeedScores], shared: Shared, metrics: Metrics) -> None:
    """Add the judge's scores of the pairs of an original and a variation; NaN for other pairs."""
    assert metrics.resources.judge is not None
    star = shared.star.nonzero()[0].tolist()
    asked = [own.texts[i] for own in every for i in star]
    owners = [shared.questions[shared.owner[i]] for _ in every for i in star]
    first, second, words = ([triple[i] for triple in asked] for i in range(3))
    found = metrics.resources.judge(first, second, words, owners)
    for own, scores in zip(every, np.split(found, len(every)), strict=True):
        own.pairs[JUDGE] = np.full(len(shared.owner), np.nan)
        own.pairs[JUDGE][star] = scores


def _takes_part(answer: Answer, shared: Shared, owners: Mapping[str, int]) -> bool:
    asked = shared.wordings.get(answer.id)
    if asked is None or answer.contexts != CONTEXTS:
        return False
    return asked.question in owners and asked.query == answer.query


def _pairs(own: Mapping[str, Answer], shared: Shared) -> list[Triple]:
    words = shared.wordings
    return [
        (own[a].answer, own[b].answer, f"{words[a].query} {words[b].query}")
        for a, b in zip(shared.first, shared.second, strict=True)
    ]


def _retrieval(own: Mapping[str, Answer], shared: Shared) -> Ints:
    """What became of the passages between the two wordings of each pair, as index of RETRIEVAL."""
    changes = [
        _change(own[a].passages, own[b].passages)
        for a, b in zip(shared.first, shared.second, strict=True)
    ]
    return np.array([RETRIEVAL.index(change) for change in changes], np.intp)


def _change(first: Sequence[str], second: Sequence[str]) -> str:
    if not first and not second:
        return "unknown"
    if first == second:
        return "same"
    return "reordered" if sorted(first) == sorted(second) else "changed"


def counts(row: Entrant, shared: Shared) -> dict[str, Any]:
    """What a reader must know of a row's answers before believing it, summed over its seeds."""
    texts = [answer.answer for own in row.seeds.values() for answer in own.values()]
    originals = complete = missing = 0
    for own in row.seeds.values():
        asked = [question_of(answer) for id_, answer in own.items() if question_of(answer) != id_]
        held = sum(question in own for question in asked)
        originals += len(own) - len(asked)
        complete += held
        missing += len(asked) - held
    seeds = len(row.seeds)
    return {
        "empty_answers": sum(not text.strip() for text in texts),
        # Answered, but in no letter or digit that ROUGE's tokens know: scored 0 by it.
        "without_tokens": sum(bool(t.strip()) and not _TOKEN.search(t.lower()) for t in texts),
        "missing_pairs": missing,
        "left_out": {
            "questions": originals - seeds * len(shared.questions),
            "pairs": complete - seeds * int(shared.star.sum()),
        },
    }

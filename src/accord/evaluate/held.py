"""Answers with the passages held fixed, and answers given again, as scores of pairs of wordings.

To see what the generator alone does with a rewording, it reads the passages that were retrieved
for the original (contexts `original`), or the gold ones (`gold`). What is unusual here: all rows
with such answers share their pairs, as they share those of the table; a row without any takes
nothing from the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accord.evaluate.answers import CONTEXTS, GOLD, ORIGINAL, Entrant, Ints, Shared
from accord.evaluate.distinct import Distinct, Triple
from accord.evaluate.metrics import Floats
from accord.records import Answer

AGAIN = "again"  # the same wording with the same passages, asked a second time


@dataclass(frozen=True)
class Plan:
    """The pairs of wordings (P,) that have a score, and where (P,) it stands in `Distinct`.

    A pair that stands there several times has the mean of its scores.
    """

    pairs: Ints
    places: Ints

    def scores(self, found: Distinct, names: Sequence[str], size: int) -> dict[str, Floats]:
        """Scores (`size`,) over all pairs by metric; NaN where there is none."""
        every = {}
        for name, scores in found.take(self.places, names).items():
            known = ~np.isnan(scores)
            total = np.bincount(self.pairs, np.where(known, scores, 0.0), size)
            with np.errstate(invalid="ignore"):
                every[name] = total / np.bincount(self.pairs, known, size)
        return every


def held_pairs(rows: Sequence[Entrant], shared: Shared) -> dict[str, Ints]:
    """Contexts -> the pairs of an original and a variation that every row with such answers has.

    Contexts that no row was asked with, or that leave no pair, are left out.
    """
    found = {}
    star = shared.star.nonzero()[0]
    for contexts in (ORIGINAL, GOLD):
        holders = [row for row in rows if row.has(contexts)]
        every = [row.held[contexts][label] for row in holders for label in row.seeds]
        if not every:
            continue
        ids = set.intersection(*(set(own) for own in every))
        kept = [
            i
            for i in star.tolist()
            if shared.second[i] in ids and (contexts == ORIGINAL or shared.first[i] in ids)
        ]
        if kept:
            found[contexts] = np.array(kept, np.intp)
    return found


def plan_held(
    row: Entrant, label: str, shared: Shared, held: Mapping[str, Ints], distinct: Distinct
) -> dict[str, Plan]:
    """What of one row under one seed is scored with passages held fixed, and asked again."""
    plans = {}
    for contexts, pairs in held.items():
        if row.has(contexts):
            answers = row.held[contexts][label]
            first = row.seeds[label] if contexts == ORIGINAL else answers
            said = [(first[shared.first[i]], answers[shared.second[i]]) for i in pairs]
            triples = [(a.answer, b.answer, f"{a.query} {b.query}") for a, b in said]
            plans[contexts] = Plan(pairs, distinct.add(triples))
    again = list(_again(row, label, shared))
    if again:
        pairs = np.array([pair for pair, _ in again], np.intp)
        plans[AGAIN] = Plan(pairs, distinct.add([triple for _, triple in again]))
    return plans


def _again(row: Entrant, label: str, shared: Shared) -> Iterator[tuple[int, Triple]]:
    """Pairs, and an answer to one of their two wordings beside the answer when asked again.

    The noise of a pair is that of both its wordings, with the original's passages where the
    variation was asked again with these, else with its own.
    """
    repeats: dict[tuple[str, str], list[Answer]] = {}
    for answer in row.repeats.get(label, ()):
        repeats.setdefault((answer.contexts, answer.id), []).append(answer)
    if not repeats:
        return
    fixed = row.held.get(ORIGINAL, {}).get(label, {})
    for i in shared.star.nonzero()[0].tolist():
        a, b = shared.first[i], shared.second[i]
        held = repeats.get((ORIGINAL, b), []) if b in fixed else []
        other, own = (held, fixed) if held else (repeats.get((CONTEXTS, b), []), row.seeds[label])
        said = [(row.seeds[label][a], r) for r in repeats.get((CONTEXTS, a), [])]
        said += [(own[b], r) for r in other]
        yield from ((i, (x.answer, y.answer, y.query)) for x, y in said if x.query == y.query)

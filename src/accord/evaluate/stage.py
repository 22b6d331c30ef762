"""Evaluate: answers in, one row of scores for each model out.

The order: `answers` says what is compared with what, `rows` scores each distinct pair of texts
once, `aggregate` adds the scores up by question, `statistics` says what of it is noise.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from accord import __version__
from accord.errors import InputError
from accord.evaluate import metrics, statistics
from accord.evaluate.aggregate import add_up, nested
from accord.evaluate.answers import (
    CONTEXTS,
    REPEAT,
    Shared,
    check_answers,
    entrants,
    share,
)
from accord.evaluate.attributed import sentence
from accord.evaluate.attribution import SIGNATURE, attribute
from accord.evaluate.caveats import described, set_aside, warnings
from accord.evaluate.compare import contrast
from accord.evaluate.guard import conflicts
from accord.evaluate.held import held_pairs
from accord.evaluate.passages import Gold
from accord.evaluate.rows import Scored, counts, score_rows
from accord.evaluate.scoring import ACCURACY, AREA, CONSISTENCY, Chosen, Metrics, Resources, choose
from accord.evaluate.worst import worst_questions
from accord.records import Answer

ALWAYS = ("rouge_l", "bleu", "em", "rs", "bs", AREA)  # null where not scored
MERGED = "Merged"
CURVE = tuple(round(0.05 * step, 2) for step in range(20))

Answers = Sequence[Answer] | Mapping[str, Sequence[Answer]]


def evaluate(
    answers: Answers,
    references: Mapping[str, str | None],
    *,
    T: float = 0.7,
    accuracy: Chosen = ACCURACY,
    consistency: Chosen = CONSISTENCY,
    resources: Resources | None = None,
    trained: Collection[str] | None = None,
    gold: Gold | None = None,
    focus: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of every model, as the file SCORES holds them.

    Accuracy is over the originals with a reference, consistency over (original, variation) pairs of
    one model (paper, section 4.2). All are fractions; null is "not scored" and never a zero.
    `answers`: of one file, or label of a seed -> answers where recipes have several seeds.
    `references` has an entry for each original question, null or blank where only consistency is
    measured. `trained`: the kinds of rewording that were trained on; the others are `unseen`.
    `gold`: the ids of the gold passages of questions, for what the retriever finds of them.
    `focus`: the row that every other is compared with; by default Merged, else the first. The
    result does not depend on the order of the answers, except that models keep the order of their
    first appearance.
    Raises InputError for settings out of range, no answers, a repeated key, an answer to no known
    question, an id that is two things, and models that share no question.
    """
    files = answers if isinstance(answers, Mapping) else {"0": answers}
    chosen = choose(accuracy, consistency, T=T, resources=resources)
    if resamples < 2:
        raise InputError(f"resamples: found {resamples}; at least 2 are wanted")
    check_answers(files, references)
    rows = entrants(files)
    if not rows:
        raise InputError(f"answers: none has contexts `{CONTEXTS}` and repeat {REPEAT}, as scored")
    shared = share(rows, references)
    held = held_pairs(rows, shared)
    scored = score_rows(rows, shared, chosen, held)
    kinds = set(shared.types[shared.star].tolist())
    unseen = None if trained is None else frozenset(kinds - set(trained))
    drawn = {"resamples": resamples, "seed": seed}
    models = {own.row.name: _row(own, shared, chosen, unseen, **drawn) for own in scored}
    for own in scored:
        row = models[own.row.name]
        found = attribute(own, shared, row, gold=gold, **drawn)
        row["attribution"] = {**found, "sentence": sentence(own.row.name, found)}
    against = _against(scored, shared, focus, unseen, **drawn)
    return {
        "models": models,
        "comparisons": against,
        "detectable": _detectable(against),
        "pareto": _front(models if "rouge_l" in chosen.accuracy else {}),
        "warnings": warnings(shared, rows),
        "signatures": {
            **metrics.signatures(T, chosen.resources.encoder),
            **statistics.signatures(resamples, seed),
            "metrics": described(chosen),
            "attribution": SIGNATURE,
            "trained": None if trained is None else sorted(trained),
            "scored": {"contexts": CONTEXTS, "repeat": REPEAT},
            "set_aside": set_aside(files, rows, shared, held),
            "accord": __version__,
        },
    }


def _row(
    own: Scored,
    shared: Shared,
    chosen: Metrics,
    unseen: frozenset[str] | None,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """All that SCORES says of one model."""
    sums = add_up(own, shared, unseen=unseen)
    estimates = statistics.bootstrap(
        sums.matrix, sums.combine, clusters=sums.clusters, resamples=resamples, seed=seed
    )
    numbers = nested(estimates, sums, dict.fromkeys(chosen.consistency))
    blank = dict.fromkeys((*ALWAYS, *chosen.accuracy, *chosen.consistency))
    return {
        **blank,
        **numbers,
        "ci": {**blank, **numbers["ci"]},
        "n": len(shared.references),
        "pairs": int(shared.star.sum()),
        "questions": len(shared.questions),
        "without_reference": len(shared.questions) - len(shared.references),
        "by_type": numbers.get("by_type", {}),
        "unscored": _unscored(own, shared),
        **_curve(own, shared),
        **_guard(own, shared, chosen),
        **_seeds(own, shared, blank),
        "worst_questions": worst_questions(own, shared, chosen.means),
        **counts(own.row, shared),
    }


def _unscored(own: Scored, shared: Shared) -> dict[str, int]:
    """How many scores of each metric are missing though their texts are there, over all seeds."""
    found: Counter[str] = Counter()
    for seed in own.seeds.values():
        for name, scores in seed.accuracy.items():
            found[name] += int(np.isnan(scores).sum())
        for name, scores in seed.pairs.items():
            found[name] += int((np.isnan(scores) & shared.star).sum())
    return {name: count for name, count in found.items() if count}


def _curve(own: Scored, shared: Shared) -> dict[str, Any]:
    """RS(T): the share of pairs whose ROUGE-L F1 is above each T, averaged over seeds."""
    if not shared.star.any() or AREA not in next(iter(own.seeds.values())).pairs:
        return {}
    area = np.stack([seed.pairs[AREA][shared.star] for seed in own.seeds.values()])
    return {"rs_curve": {"T": list(CURVE), "rs": [float((area > T).mean()) for T in CURVE]}}


def _guard(own: Scored, shared: Shared, chosen: Metrics) -> dict[str, Any]:
    """How many pairs the guard refuses to call equivalent, by reason, over all seeds."""
    if not chosen.consistency.get("containment", {"guard": False}).get("guard", True):
        return {}
    found: Counter[str] = Counter()
    for seed in own.seeds.values():
        if "containment" not in seed.pairs:  # not one pair of answers
            continue
        refused = shared.star & (seed.pairs["containment"] == 0)  # it scores 0 what it refuses
        texts = [seed.texts[i] for i in refused.nonzero()[0]]
        if texts:
            found.update(reason for reason in conflicts(*zip(*texts, strict=True)) if reason)
    return {"guard": dict(sorted(found.items()))}


def _seeds(own: Scored, shared: Shared, names: Iterable[str]) -> dict[str, Any]:
    """The overall numbers of each seed alone, where there are several."""
    if len(own.seeds) < 2:
        return {}
    shown = {}
    for label, scores in own.seeds.items():
        sums = add_up(Scored(own.row, {label: scores}), shared)
        values = sums.combine(sums.matrix.sum(axis=0))
        found = {
            path[0]: float(value)
            for path, value in zip(sums.names, values, strict=True)
            if not path[1:] and not np.isnan(value)
        }
        shown[label] = {name: found.get(name) for name in names}
    return {"seeds": shown}


def _against(
    scored: Sequence[Scored],
    shared: Shared,
    focus: str | None,
    unseen: frozenset[str] | None,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """The row in focus compared with every other; None where there is no other."""
    by_name = {own.row.name: own for own in scored}
    if focus is not None and focus not in by_name:
        raise InputError(
            f"answers: no model `{focus}`; there are " + ", ".join(f"`{n}`" for n in by_name)
        )
    chosen = focus or (MERGED if MERGED in by_name else next(iter(by_name)))
    if len(by_name) < 2:
        return None
    return {
        "focus": chosen,
        "against": {
            name: contrast(
                by_name[chosen], own, shared, unseen=unseen, resamples=resamples, seed=seed
            )
            for name, own in by_name.items()
            if name != chosen
        },
    }


def _detectable(against: Mapping[str, Any] | None) -> dict[str, float | None]:
    """The largest detectable difference of each metric over the comparisons of the table."""
    found: dict[str, float | None] = dict.fromkeys(ALWAYS)
    for other in (against or {"against": {}})["against"].values():
        for name, entry in other.items():
            known = entry.get("detectable") if isinstance(entry, Mapping) else None
            if known is not None:
                found[name] = max(known, found.get(name) or 0.0)
    return found


def _front(models: Mapping[str, Any]) -> dict[str, Any]:
    """The Pareto front of accuracy and consistency: rows that no other beats in both."""
    points = {
        name: (row["rouge_l"], row["rs"])
        for name, row in models.items()
        if row["rouge_l"] is not None and row["rs"] is not None
    }
    front = [
        name
        for name, own in points.items()
        if not any(p != own and p[0] >= own[0] and p[1] >= own[1] for p in points.values())
    ]
    return {"accuracy": "rouge_l", "consistency": "rs", "front": front}

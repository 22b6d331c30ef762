"""Two rows compared on the same questions and pairs: what differs, and what may be claimed."""

from collections.abc import Collection, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.evaluate import statistics
from accord.evaluate.aggregate import Path, Sums, add_up
from accord.evaluate.answers import Entrant, Shared, share
from accord.evaluate.metrics import Floats
from accord.evaluate.rows import Scored, score_rows
from accord.evaluate.scoring import AREA, Metrics

ALPHA = 1 - statistics.LEVEL
TITLES = {
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "token_f1": "token F1",
    "em": "EM",
    "rs": "RS",
    "bs": "BS",
    "containment": "containment",
    "bertscore": "BERTScore",
    "judge": "judge",
}


def contrast(
    a: Scored,
    b: Scored,
    shared: Shared,
    *,
    unseen: frozenset[str] | None = None,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The paired differences a - b, nested by path as the numbers of a row are.

    Each: `a`, `b`, `difference`, its 95 % interval `ci`, `p` of the sign-flip test, `p_holm` after
    Holm over all metrics and kinds of this comparison, `detectable`, `n`, `pairs`, and `claim`:
    `better` or `worse` where p_holm < .05, the interval excludes 0 and every seed has the same
    sign, else null. `group` and `worst` restate the same pairs and are not tested. Rows that said
    the very same have intervals of [0, 0].
    """
    common = _common(a, b)
    sums = [add_up(own, shared, unseen=unseen, common=common) for own in (a, b)]
    first, second = sums
    clusters = np.minimum(first.clusters, second.clusters)
    settings = {"resamples": resamples, "seed": seed}
    found = statistics.bootstrap(
        first.matrix, first.combine, minus=second.matrix, clusters=clusters, **settings
    )
    same = _same_texts(a, b)
    p = statistics.sign_flip(first.matrix, second.matrix, first.combine, **settings)
    tested = [i for i, path in enumerate(first.names) if _is_tested(path) and not np.isnan(p[i])]
    adjusted = dict(zip(tested, statistics.holm([float(p[i]) for i in tested]), strict=True))
    values = [own.combine(own.matrix.sum(axis=0)) for own in sums]
    signs = _signs(a, b, shared, unseen, common)
    result: dict[str, Any] = {}
    for i, path in enumerate(first.names):
        if np.isnan(found.values[i]):
            continue
        entry: dict[str, Any] = {
            "a": float(values[0][i]),
            "b": float(values[1][i]),
            "difference": float(found.values[i]),
            "ci": [0.0, 0.0] if same else found.interval(i),
            "n": int(clusters[i]),
            "pairs": _pairs(first, i),
        }
        if i in adjusted:
            entry |= {
                "p": float(p[i]),
                "p_holm": adjusted[i],
                "detectable": statistics.detectable(
                    float(found.errors[i]),
                    int(clusters[i]),
                    (entry["a"], entry["b"]),
                    tests=len(tested),
                ),
                "claim": _claim(entry, adjusted[i], bool(signs[i])),
            }
        part = result
        for step in path[:-1]:
            part = part.setdefault(step, {})
        part[path[-1]] = entry
    return {**result, "tests": len(tested), "questions": len(shared.questions)}


def _same_texts(a: Scored, b: Scored) -> bool:
    """Whether both rows said the very same: then no sampling of questions tells them apart."""
    said = [sorted(tuple(own.texts) for own in row.seeds.values()) for row in (a, b)]
    answers = [
        {id_: x.answer for own in row.row.seeds.values() for id_, x in own.items()}
        for row in (a, b)
    ]
    shared = answers[0].keys() & answers[1].keys()
    return said[0] == said[1] and all(answers[0][i] == answers[1][i] for i in shared)


def _common(a: Scored, b: Scored) -> dict[str, NDArray[np.bool_]]:
    """Which scores of each metric count: those that both rows have under every seed."""
    masks: dict[str, NDArray[np.bool_]] = {}
    for own in (*a.seeds.values(), *b.seeds.values()):
        for name, scores in (*own.accuracy.items(), *own.pairs.items()):
            if scores.ndim == 1:
                masks[name] = masks.get(name, True) & ~np.isnan(scores)
    return masks


def _is_tested(path: Path) -> bool:
    return len(path) == 1 or path[0] in {"by_type", "unseen"}


def _pairs(sums: Sums, index: int) -> int | None:
    """Pairs (or questions, of accuracy) behind one number; None for BLEU, which has no pairs."""
    if index >= len(sums.paths):
        return None
    return round(float(sums.denominators[:, index].sum()))


def _signs(
    a: Scored,
    b: Scored,
    shared: Shared,
    unseen: frozenset[str] | None,
    common: Mapping[str, NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """Which differences (m,) have one sign in every seed.

    Seeds of the same labels are paired by label; else every seed of one with every one of the
    other.
    """

    def values(own: Scored) -> dict[str, Floats]:
        found = {}
        for label, scores in own.seeds.items():
            alone = add_up(Scored(own.row, {label: scores}), shared, unseen=unseen, common=common)
            found[label] = alone.combine(alone.matrix.sum(axis=0))
        return found

    first, second = values(a), values(b)
    if set(first) == set(second):
        differences = [first[label] - second[label] for label in first]
    else:
        differences = [x - y for x, y in product(first.values(), second.values())]
    signs = np.sign(differences)
    same: NDArray[np.bool_] = (signs == signs[0]).all(axis=0)
    return same


def _claim(entry: Mapping[str, Any], adjusted: float, one_sign: bool) -> str | None:
    ci = entry["ci"]
    if adjusted >= ALPHA or not one_sign or ci is None or ci[0] <= 0 <= ci[1]:
        return None
    return "better" if entry["difference"] > 0 else "worse"


def sentence(found: Mapping[str, Any], a: str, b: str) -> str:
    """What can and what cannot be claimed of two rows, in one sentence."""
    entries = {
        name: entry
        for name, entry in found.items()
        if name != AREA and isinstance(entry, Mapping) and "difference" in entry
    }
    parts = [_claimed(entries, claim, a, b) for claim in ("better", "worse")]
    silent = [_unclaimed(name, entry) for name, entry in entries.items() if not entry["claim"]]
    if silent:
        between = "" if any(parts) else f" between `{a}` and `{b}`"
        parts.append(f"no difference{between} can be claimed in {', '.join(silent)}")
    kinds = {
        kind
        for kind, own in found.get("by_type", {}).items()
        if any(entry["claim"] for entry in own.values())
    }
    if kinds and not any(entry["claim"] for entry in entries.values()):
        parts.append(f"though some can for {', '.join(sorted(kinds))} alone")
    parts = [part for part in parts if part] or ["nothing could be compared"]
    size = f"{found['questions']:,} questions, after Holm over {found['tests']} tests"
    return f"On {size}: {'; '.join(parts)}."


def _claimed(entries: Mapping[str, Any], claim: str, a: str, b: str) -> str:
    shown = []
    for name, entry in entries.items():
        if entry["claim"] == claim:
            low, high = sorted(abs(end) for end in entry["ci"])
            size = abs(entry["difference"])
            shown.append(f"{TITLES.get(name, name)} by {size:.3f} [{low:.3f}, {high:.3f}]")
    direction = "higher" if claim == "better" else "lower"
    return f"`{a}` is {direction} than `{b}` in {', '.join(shown)}" if shown else ""


def _unclaimed(name: str, entry: Mapping[str, Any]) -> str:
    title = TITLES.get(name, name)
    if entry["detectable"] is None:
        return title
    return f"{title} (below {entry['detectable']:.3f} it could not be seen)"


def compare(
    a: Entrant,
    b: Entrant,
    references: Mapping[str, str | None],
    chosen: Metrics,
    *,
    trained: Collection[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The paired differences of two rows, from wherever their answers are; see `contrast`.

    Only questions and variations that both answered, asked in the same words, take part;
    `left_out` counts the others. The names of the rows must differ.
    Raises InputError where they share no question, or one that `references` does not know.
    """
    shared = share([a, b], references)
    first, second = score_rows([a, b], shared, chosen)
    kinds = set(shared.types[shared.star].tolist())
    unseen = None if trained is None else frozenset(kinds - set(trained))
    found = contrast(first, second, shared, unseen=unseen, resamples=resamples, seed=seed)
    every = {id_ for row in (a, b) for own in row.seeds.values() for id_ in own}
    both = a.answered & b.answered
    kept = {*shared.questions, *shared.second}
    return {
        **found,
        "pairs": int(shared.star.sum()),
        "n": len(shared.references),
        "left_out": {
            "answered_by_one": len(every - both),
            "asked_in_other_words": shared.reworded,
            "without_original": len(both - kept) - shared.reworded,
        },
        "sentence": sentence(found, a.name, b.name),
    }

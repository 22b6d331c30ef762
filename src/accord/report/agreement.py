"""How far the retriever finds the same passages for every wording of a question.

A generator can hardly agree with itself when it reads different passages, so this is looked at
before any model is blamed.
"""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from accord.records import Grounded


def retrieval_agreement(
    grounded: Iterable[Grounded], types: Mapping[str, str | None]
) -> dict[str, Any]:
    """Compare the passages of each rewording with those of its original.

    `types` gives the kind of each wording's id; wordings it does not name are left out.
    Returns `k`, `first_same` (share with the original's first passage), `jaccard` (mean, of the
    sets) and `wordings` (how many were compared), overall and under `by_type`.
    """
    grounded = list(grounded)  # may be an iterator, and is read twice
    passages = {g.id: [ranked.id for ranked in g.passages] for g in grounded if g.id in types}
    originals = {g.id: g.original_id for g in grounded if g.id in types}
    pairs: dict[str, list[tuple[bool, float]]] = {}
    for ident, found in passages.items():
        kind, original = types[ident], passages.get(originals[ident])
        if kind is not None and original is not None:
            same_first = bool(found) and found[:1] == original[:1]
            pairs.setdefault(kind, []).append((same_first, _jaccard(found, original)))
    everything = [pair for kind in pairs.values() for pair in kind]
    return {
        "k": max((len(found) for found in passages.values()), default=0),
        **_means(everything),
        "by_type": {kind: _means(pairs[kind]) for kind in sorted(pairs)},
    }


def _jaccard(left: list[str], right: list[str]) -> float:
    union = set(left) | set(right)
    return len(set(left) & set(right)) / len(union) if union else 0.0


def _means(pairs: list[tuple[bool, float]]) -> dict[str, Any]:
    return {
        "first_same": fmean(first for first, _ in pairs) if pairs else None,
        "jaccard": fmean(jaccard for _, jaccard in pairs) if pairs else None,
        "wordings": len(pairs),
    }

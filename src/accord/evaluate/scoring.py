"""Scores of pairs of texts by the chosen metrics; adding them up is done elsewhere.

What is unusual here: a score may be NaN, which means unscored: the metric has nothing to say on
this pair. It is counted and left out, and is never a zero.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accord.errors import InputError, RunError
from accord.evaluate import metrics
from accord.evaluate.metrics import BLEU_STATISTICS, Encode, Floats
from accord.registry import check_options, component

ACCURACY = ("rouge_l", "bleu")
CONSISTENCY = ("em", "rs", "bs", "containment")
AREA = "rs_area"
JUDGE = "judge"
# (texts, texts, questions' words, original questions) to scores, NaN where unscored
Judge = Callable[[Sequence[str], Sequence[str], Sequence[str], Sequence[str]], Floats]
Chosen = Sequence[str | tuple[str, Mapping[str, Any]]]  # names, or (name, options)


@dataclass(frozen=True)
class Resources:
    """What a metric may ask for by the name of a keyword without default; None: not there."""

    encode: Encode | None = None
    encoder: str | None = None  # the encoder's name, for people
    embed_tokens: Any = None  # of BERTScore
    judge: Judge | None = None  # asked for pairs of an original and a variation only: it costs


@dataclass(frozen=True)
class Metrics:
    """The chosen metrics with their options."""

    accuracy: Mapping[str, Mapping[str, Any]]
    consistency: Mapping[str, Mapping[str, Any]]
    T: float = 0.7
    resources: Resources = field(default_factory=Resources)

    @property
    def means(self) -> list[str]:
        """Metrics of consistency that are scored, with the area under RS(T) beside RS."""
        names = [name for name in self.consistency if not self.missing(name)]
        return [*names, AREA] if "rs" in names else names

    def missing(self, name: str) -> str | None:
        """The resource that a metric lacks here, else None."""
        for needed in _needs(name):
            if needed != "queries" and getattr(self.resources, needed, None) is None:
                return needed
        return None

    def score(
        self, names: Sequence[str], pairs: Sequence[tuple[str, str, str]]
    ) -> dict[str, Floats]:
        """Scores of each metric over (text, text, the question's words), (N,) or (N, k)."""
        first, second = [a for a, _, _ in pairs], [b for _, b, _ in pairs]
        queries = [query for _, _, query in pairs]
        scores = {}
        for name in names:
            if name in {"rs", AREA}:
                continue
            options = {**self.accuracy, **self.consistency}.get(name, {})
            scores[name] = self._call(name, first, second, queries, options)
        if "rs" in names or AREA in names:
            # The area under RS(T), T from 0 to 1, is the integral of the share of pairs whose F1
            # is above T: the mean F1.
            area = scores.get("rouge_l")
            area = metrics.rouge_l(first, second) if area is None else area
            scores |= {"rs": metrics.above(area, self.T), AREA: area}
        return scores

    def _call(
        self,
        name: str,
        first: Sequence[str],
        second: Sequence[str],
        queries: Sequence[str],
        options: Mapping[str, Any],
    ) -> Floats:
        given = {"queries": queries, "encode": self.resources.encode}
        given["embed_tokens"] = self.resources.embed_tokens
        needed = {resource: given[resource] for resource in _needs(name)}
        function = component("metrics", name, "evaluate").function
        scores = np.asarray(function(first, second, **needed, **options), dtype=np.float64)
        wanted = (len(first), BLEU_STATISTICS) if name == "bleu" else (len(first),)
        if scores.shape != wanted or np.isinf(scores).any():
            raise RunError(
                f"metric `{name}`: returned an array of shape {scores.shape} for {len(first)} "
                "pairs or infinite scores; one finite number for each, or NaN for unscored, is "
                "wanted"
            )
        if scores.ndim == 1 and ((scores < 0) | (scores > 1)).any():
            raise RunError(f"metric `{name}`: returned a score outside [0, 1]")
        return scores


_GIVEN = ("queries", "encode", "embed_tokens")


def _needs(name: str) -> list[str]:
    """The keyword-only parameters without default of a metric: resources the caller gives."""
    function = component("metrics", name, "evaluate").function
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


def choose(
    accuracy: Chosen = ACCURACY,
    consistency: Chosen = CONSISTENCY,
    *,
    T: float = 0.7,
    resources: Resources | None = None,
) -> Metrics:
    """The metrics by name, with options; raises InputError for what is none or does not fit."""
    if not 0 <= T < 1:
        raise InputError(f"T: found {T}; a number from 0 to below 1 is wanted")
    chosen = {}
    for role, wanted in (("accuracy", accuracy), ("consistency", consistency)):
        given = dict(w if isinstance(w, tuple) else (w, {}) for w in wanted)
        where = f"evaluate.{role}"
        for name, options in given.items():
            found = component("metrics", name, where)
            given[name] = check_options(found, options, f"{where}.{name}")
            unknown = set(_needs(name)) - set(_GIVEN)
            if unknown:
                raise InputError(
                    f"{where}: metric `{name}` asks for `{min(unknown)}`; it may ask for "
                    + ", ".join(f"`{n}`" for n in _GIVEN)
                )
        chosen[role] = given
    if "T" in chosen["consistency"].get("rs", {}):
        raise InputError("evaluate.consistency.rs.T: give it as `T`, which all of it is made with")
    for name in ("rs", "em"):
        if name in chosen["accuracy"]:
            raise InputError(f"evaluate.accuracy: `{name}` is a metric of consistency")
    if "bleu" in chosen["consistency"]:
        raise InputError("evaluate.consistency: `bleu` is of a corpus, not of a pair of answers")
    both = set(chosen["accuracy"]) & set(chosen["consistency"])
    if both:
        raise InputError(
            f"evaluate: metric `{min(both)}` stands under accuracy and consistency; choose one, "
            "since the scores carry its name"
        )
    return Metrics(chosen["accuracy"], chosen["consistency"], T, resources or Resources())

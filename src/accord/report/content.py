"""What a report is made of: plain data, so that the page can be made from any run's files.

Every part may be missing. The page then says what is missing instead of leaving it out silently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accord.records import LayerWeights


@dataclass(frozen=True)
class AskedWording:
    """One wording of a question, what was retrieved for it, and each model's answer to it."""

    id: str
    query: str
    type: str | None = None  # null: the original
    passages: Sequence[str] = ()  # ids, best first
    answers: Mapping[str, str] = field(default_factory=dict)  # row name -> answer


@dataclass(frozen=True)
class Example:
    """A question in all its wordings, the original first.

    `agreement` is the share of pairs (original, rewording) that agree, averaged over the models.
    Without it the page counts equal strings. The lowest come first.
    """

    id: str
    wordings: Sequence[AskedWording]
    reference: str | None = None
    agreement: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything the page shows.

    table: as table.json: rows with their parts and attribution, comparisons, warnings, signatures,
        and `detectable` {metric: smallest difference that every comparison could tell from noise}
    scores: {"models": {row: {"by_type": {type: {"rs", "pairs", "ci"}}}}}
    config: resolved, without secrets
    counts: {"questions": {split: n}, "wordings": {split: {type: n}},
        "skipped": {type: {reason: n}}}
    timings: {stage: seconds}
    notes: sentences, such as warnings of the run
    """

    title: str = ""
    table: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    layer_weights: LayerWeights | None = None
    config: Mapping[str, Any] | None = None
    counts: Mapping[str, Any] | None = None
    examples: Sequence[Example] | None = None
    timings: Mapping[str, float] | None = None
    notes: Sequence[str] | None = None

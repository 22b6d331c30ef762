"""The numbers and sentences that go with the pictures of the merge weights."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from accord.records import LayerWeights
from accord.report.grid import fixed
from accord.report.layers import spread_sentence, spreads
from accord.report.svg import number


def weights_view(made: LayerWeights) -> dict[str, Any]:
    """Per model the range of its weights; what to keep in mind when reading them."""
    rows, every = [], []
    for k, name in enumerate(made.models):
        given = made.weights[k] if k < len(made.weights) else ()
        row = [v for v in map(number, given) if v is not None]
        every += row
        outside = made.outside_layers[k] if k < len(made.outside_layers) else None
        numbers = [min(row), fmean(row), max(row)] if row else [None] * 3
        rows.append((name, [fixed(v) for v in (*numbers, outside)]))
    return {
        "rows": rows,
        "range": f"from {min(every):.3f} to {max(every):.3f}" if every else "none",
        "sentences": _sentences(made),
        "made": _provenance(made),
    }


def _sentences(made: LayerWeights) -> list[str]:
    found = []
    totals = [sum(layer) for layer in zip(*made.weights, strict=False)]
    if totals:
        found.append(
            f"The weights of a layer add up to {min(totals):.2f} at least and "
            f"{max(totals):.2f} at most; {fmean(totals):.2f} on average."
        )
    if spread := spread_sentence(made):
        found.append(spread)
        level = fmean([v for row in made.distances for v in row])
        gaps = spreads(made)
        if level and sorted(gaps)[len(gaps) // 2] < 0.01 * level:
            found.append(
                "The distances hardly differ between the models; normalising them then turns "
                "mostly noise into weights."
            )
    if len(made.models) == 2:
        found.append(
            "With two models the normalised gap is 0 for one and 1 for the other whatever the "
            "distances, so the weights say which model is closer, not by how much."
        )
    return found


def _provenance(made: LayerWeights) -> list[tuple[str, str]]:
    extra: Mapping[str, Any] = made.model_extra or {}
    return [(str(k).replace("_", " "), str(v)) for k, v in extra.items() if v is not None]

"""The fourth stage: one weight for each specialist and layer (Algorithm 1)."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError, RunError
from accord.models.encoder import Encoder
from accord.progress import SILENT, Progress
from accord.records import LayerWeights
from accord.registry import component
from accord.weigh.similarity import distance


def weigh(
    models: Mapping[str, Path],
    queries: Sequence[str],
    encoder: Encoder,
    *,
    weighting: str = "paper",
    similarity: str = "standardized",
    pool: Literal["max", "mean", "last"] = "max",
    options: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> tuple[LayerWeights, list[str]]:
    """Merge weights [K][L] from how far each layer's view of the queries is from the encoder's.

    Args:
        models: folders of the K specialists by name; they share a tokenizer.
        queries: development queries, bare; repeated strings count once. At least 2 are needed.
        encoder: gives the reference S_r (the same similarity, over the encoder's vectors).
        weighting, options: which weighting, and its options.
        similarity: which similarity matrix.
        pool: how a layer's activations become one vector.

    Returns:
        The weights, models in the order of their names, and notes for the user.
    """
    distinct = list(dict.fromkeys(queries))
    if len(distinct) < 2:
        raise InputError(
            f"weigh: {len(distinct)} different development queries; similarities need at least 2: "
            "give more questions to the dev split"
        )
    similar = component("similarities", similarity, "weigh.similarity").function
    names = sorted(models)
    progress.start(len(names) + 1, "models")
    reference = similar(encoder.encode(distinct).astype(np.float64))
    progress.advance(1, "encoder")
    rows = []
    for name in names:
        features = _features(models[name], name, distinct, pool)
        rows.append([distance(similar(layer), reference) for layer in features])
        progress.advance(1, name)
    distances = _matrix(rows, names)
    weights = component("weightings", weighting, "weigh.type").function(distances, **options or {})
    made = LayerWeights.model_validate(
        {
            "models": names,
            "layers": distances.shape[1],
            "weights": weights.tolist(),
            "distances": distances.tolist(),
            "outside_layers": weights.mean(axis=1).tolist(),
            "weighting": {"type": weighting, **(options or {})},
            "similarity": similarity,
            "pool": pool,
            "queries": len(distinct),
        }
    )
    return made, _notes(distances, similarity)


def _features(folder: Path, name: str, queries: Sequence[str], pool: str) -> Any:
    from accord.models.base import give_memory_back, load_model, load_tokenizer
    from accord.weigh.activations import layer_features

    model = load_model(folder)
    features = layer_features(model, load_tokenizer(folder), queries, pool=pool, name=name)
    del model
    gc.collect()
    give_memory_back()
    return features


def _matrix(rows: Sequence[Sequence[float]], names: Sequence[str]) -> NDArray[np.float64]:
    """[K, L], or an error that names the model with another number of layers."""
    for name, row in zip(names, rows, strict=True):
        if len(row) != len(rows[0]):
            raise InputError(
                f"weigh: {name} has {len(row)} layers and {names[0]} has {len(rows[0])}; "
                "only models of one architecture can be merged"
            )
        if not np.isfinite(row).all():
            raise RunError(f"weigh: {name} gives activations that are not finite")
    return np.asarray(rows, dtype=np.float64)


def spread(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """By layer, the range of distances across models relative to their mean: [K, L] -> [L]."""
    middle = distances.mean(axis=0)
    relative: NDArray[np.float64] = np.ptp(distances, axis=0) / np.where(middle > 0, middle, 1.0)
    return relative


def _notes(distances: NDArray[np.float64], similarity: str) -> list[str]:
    count, notes = len(distances), []
    relative = spread(distances)
    notes.append(
        f"layer weights: {similarity} distances are {distances.min():.3f} to "
        f"{distances.max():.3f}; across models they differ by {relative.min():.1%} to "
        f"{relative.max():.1%} of their mean in a layer (median {np.median(relative):.1%})"
    )
    if count == 2:
        notes.append(
            "layer weights: with 2 models the shares are 0 and 1 whatever the gap (equation 3)"
        )
    level = int((np.ptp(distances, axis=0) == 0).sum())
    if level:
        notes.append(
            f"layer weights: in {level} layers all models are equally far: each has share 1/{count}"
        )
    return notes

"""The threshold of a score, from pairs of answers that people labelled."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from accord.errors import InputError
from accord.evaluate.calibrate import calibrate
from accord.evaluate.metrics import Floats
from accord.evaluate.scoring import choose
from accord.measure.sources import Measures
from accord.records import Labelled, read_records
from accord.registry import components, suggest


def calibrate_file(path: Path, metric: str, precision: float, measures: Measures) -> dict[str, Any]:
    """The threshold of a metric, or of a field of the file, at a target precision on its pairs.

    Raises InputError for a metric that is none and no field of the file, and for pairs of one kind.
    """
    labelled = read_records(path, Labelled)
    if not labelled:
        raise InputError(f"{path}: holds no pairs; one labelled pair a line is wanted")
    scores = _label_scores(path, labelled, metric, measures)
    try:
        found = calibrate(
            scores,
            np.array([pair.equivalent for pair in labelled]),
            [pair.group for pair in labelled],
            [max(len(pair.a.split()), len(pair.b.split())) for pair in labelled],
            precision=precision,
            resamples=measures.resamples,
            seed=measures.seed,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return {"metric": metric, "labelled": path.name, **found}


def _label_scores(
    path: Path, labelled: Sequence[Labelled], metric: str, measures: Measures
) -> Floats:
    if metric in components("metrics") and metric != "bleu":
        wanted = "rs_area" if metric == "rs" else metric
        # RS is calibrated by the F1 that it thresholds.
        resources = replace(measures, accuracy=(), consistency=(metric,)).resources
        chosen = choose((), (metric,), T=measures.T, resources=resources)
        lacking = chosen.missing(metric)
        if lacking:
            raise InputError(f"--calibrate-metric {metric}: needs --encoder; found none")
        pairs = [(pair.a, pair.b, pair.query or "") for pair in labelled]
        return chosen.score([metric], pairs)[wanted]
    extra = [(pair.model_extra or {}).get(metric) for pair in labelled]
    if all(value is None for value in extra):
        names = [name for name in components("metrics") if name != "bleu"]
        raise InputError(
            f"--calibrate-metric: no metric `{metric}` and no such field in {path}; "
            f"{suggest(metric, names)}"
        )
    for number, value in enumerate(extra, start=1):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{path} pair {number}: `{metric}` is {value!r}; a number is wanted")
    return np.array([np.nan if value is None else value for value in extra], dtype=np.float64)

"""Stage 5, merge: theta^l = theta_base^l + change(w_k^l, theta_k^l - theta_base^l), layer by layer.

Unusual: the models are never in memory. All inputs are read, merged and written in pieces of a
few hundred thousand elements, and the folder appears complete or not at all.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accord.errors import RunError
from accord.merge.checkpoint import Checkpoint, CheckpointWriter
from accord.merge.companions import write_companions
from accord.merge.headers import FLOATS, LARGEST
from accord.merge.masks import mask, mask_key
from accord.merge.methods import Method
from accord.merge.preflight import Plan, prepare, same_bytes
from accord.progress import SILENT, Progress
from accord.records import LayerWeights
from accord.registry import check_options, component

# 1 MiB of float32: the arrays of a piece stay near the core; larger ones gain nothing but memory.
PIECE = 1 << 18


def merge(
    base: Path,
    models: Mapping[str, Path],
    weights: LayerWeights,
    out: Path,
    *,
    method: str = "dare_ties",
    options: Mapping[str, Any] | None = None,
    outside_layers: Literal["mean", "base"] = "mean",
    seed: int = 0,
    name: str = "Merged",
    progress: Progress = SILENT,
) -> tuple[str, ...]:
    """Merge specialists of `base` (label -> folder) into a new model folder `out`.

    `options` are those of the method. Embeddings, final norm and head take
    `weights.outside_layers` where it is given, else the mean of the layers' weights, or 0 with
    `outside_layers="base"`. The bytes written depend on labels, not on the order of `models`.

    Returns notes for the user. Raises InputError for what is wrong with the inputs, before
    anything is written; RunError for NaN or infinity in a tensor, or a full disk. Neither leaves
    anything at `out`.
    """
    found = component("methods", method, "merge.method")
    given = check_options(found, options or {}, "merge")
    settings = {key: p.default for key, p in found.options.items()} | given
    plan = prepare(base, models, weights, out, outside_layers)
    with _complete(out) as folder:
        notes = _write_tensors(plan, partial(found.function, **settings), seed, folder, progress)
        notes += write_companions(
            folder, plan, name=name, method=method, options=settings, seed=seed
        )
    return tuple(notes)


@contextmanager
def _complete(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place if the block succeeds, else is removed."""
    target = out.resolve()
    folder = target.with_name(f".{target.name}.partial")
    try:
        if folder.exists():  # of a merge that was killed
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        yield folder
        if target.exists():
            target.rmdir()  # empty, or it would have been refused
        folder.rename(target)
    except OSError as error:
        where = error.filename or out
        raise RunError(f"{where}: {error.strerror or error}; nothing was written") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@np.errstate(over="ignore", invalid="ignore")  # looked for by hand, with the tensor's name
def _write_tensors(
    plan: Plan, method: Method, seed: int, folder: Path, progress: Progress
) -> list[str]:
    writer = CheckpointWriter(folder, plan.base.tensors)
    progress.start(len(writer.tensors), "tensors")
    notes = []
    for name, info in writer.tensors.items():
        if info.floating:
            _merge_tensor(plan, name, method, seed, writer)
        else:
            notes += _hand_through(plan, name, writer)
        progress.advance(1, note=name)
    writer.finish()
    return notes


def _merge_tensor(
    plan: Plan, name: str, method: Method, seed: int, writer: CheckpointWriter
) -> None:
    row = plan.row(name)
    keys = [mask_key(seed, label, name) for label in plan.models]
    size = plan.base.tensors[name].size
    for start in range(0, size, PIECE):
        count = min(PIECE, size - start)
        values = _finite(plan.base, "the base", name, start, count)
        deltas = [
            _finite(model, f"model {label}", name, start, count) - values
            for label, model in plan.models.items()
        ]
        masks = [partial(mask, key, start, count) for key in keys]
        change = method(deltas, row, masks)
        # Not where it is 0: -0.0 + 0.0 would lose the sign, and the base must stay bit for bit.
        np.add(values, change, out=values, where=change != 0)
        writer.write(name, start, _rounded(values, writer.tensors[name].dtype, name))


def _finite(model: Checkpoint, who: str, name: str, start: int, count: int) -> NDArray[np.float32]:
    """A piece of a tensor; raises RunError when it holds NaN or infinity."""
    values = model.piece(name, start, count)
    # One pass: a sum is finite only if all terms are. It may overflow, so then they are counted.
    if not np.isfinite(values.sum()) and not np.isfinite(values).all():
        raise RunError(
            f"{model.folder}: {who}: tensor `{name}` holds {_count_bad(model, name)} values that "
            "are NaN or infinite; that model cannot be merged"
        )
    return values


def _count_bad(model: Checkpoint, name: str) -> int:
    size = model.tensors[name].size
    pieces = (model.piece(name, at, min(PIECE, size - at)) for at in range(0, size, PIECE))
    return sum(int(np.count_nonzero(~np.isfinite(piece))) for piece in pieces)


def _rounded(values: NDArray[np.float32], dtype: str, name: str) -> NDArray[Any]:
    """The only rounding: float32 to the base's dtype. Raises RunError when a value is too large."""
    limit = LARGEST[dtype]
    if not (values.max() <= limit and values.min() >= -limit):
        raise RunError(f"tensor `{name}`: merged values are too large for {dtype}")
    return values.astype(FLOATS[dtype], copy=False)


def _hand_through(plan: Plan, name: str, writer: CheckpointWriter) -> list[str]:
    """Copy an integer tensor from the base; returns a note if the models do not agree on it."""
    size = plan.base.tensors[name].size
    for start in range(0, size, PIECE):
        writer.write(name, start, plan.base.raw(name, start, min(PIECE, size - start)))
    others = [k for k, model in plan.models.items() if not same_bytes(name, plan.base, name, model)]
    if not others:
        return []
    return [
        f"tensor `{name}` differs in {', '.join(others)}; the base's is used, as it is no float"
    ]

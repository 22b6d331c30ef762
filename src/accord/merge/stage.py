"""Stage 5, merge: theta^l = theta_base^l + change(w_k^l, theta_k^l - theta_base^l), layer by layer.

Unusual: the models are never in memory. All inputs are read, merged and written in pieces of a
few hundred thousand elements, and the folder appears complete or not at all; a merge that was
killed goes on where it stopped.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from accord.errors import InputError, RunError
from accord.merge import blend, native
from accord.merge.companions import write_companions
from accord.merge.engine import Engine, Work, default_threads
from accord.merge.headers import SIZES
from accord.merge.journal import Found, Journal
from accord.merge.masks import mask_key
from accord.merge.methods import exempt
from accord.merge.preflight import (
    Plan,
    Recipe,
    Resolve,
    check_tied,
    partial_of,
    prepare,
    same_bytes,
)
from accord.merge.tensors import MergedTensor, Outline
from accord.merge.writer import CheckpointWriter
from accord.progress import SILENT, Progress
from accord.records import LayerWeights
from accord.registry import Component, check_options, component

_COPIED = 1 << 20  # elements of a tensor that is no float, at once


def merge(
    base: Path,
    models: Mapping[str, Path],
    weights: LayerWeights | None,
    out: Path,
    *,
    method: str = "dare_ties",
    options: Mapping[str, Any] | None = None,
    outside_layers: Literal["mean", "base"] = "mean",
    resolve: Resolve | None = None,
    dtype: str | None = None,
    exempt_1d: bool = False,
    seed: int = 0,
    name: str = "Merged",
    source: str | None = None,
    threads: int | None = None,
    kernel: Literal["auto", "numba", "numpy"] = "auto",
    allow_nonfinite: bool = False,
    fsync: bool = False,
    progress: Progress = SILENT,
) -> tuple[str, ...]:
    """Merge specialists of `base` (label -> folder of a model or LoRA adapter) into `out`.

    Args:
        base: the model folder the deltas are from.
        models: label -> folder.
        weights: of each model in each layer; None for a method without, or with `resolve`.
        out: the new folder; bytes depend on labels, not on the order of `models`.
        method: by name, with its `options`.
        outside_layers: embeddings, final norm and head take `weights.outside_layers` where it is
            given, else the mean of the layers' weights, or 0 with "base".
        resolve: weights and options of each tensor by its name, in the order of sorted labels, in
            place of `weights` and `options`.
        dtype: F32, F16 or BF16 of the result; that of the base if not given.
        exempt_1d: nothing is dropped from tensors of one dimension (norms, biases).
        seed: of the masks.
        source: the text of a config of another format, kept in the folder.
        threads: as many as there are processors, at most 8, if not given.
        kernel: "numpy" merges without numba; "numba" insists on it.
        allow_nonfinite: NaN and infinity do not stop the merge; they are counted in the notes.
        fsync: wait for the disk, so that a power failure cannot hurt what is complete.

    Returns notes for the user. Raises InputError for what is wrong with the inputs, before
    anything is written; RunError for NaN or infinity in a tensor, or a full disk. Neither leaves
    anything at `out`.
    """
    found = component("methods", method, "merge.method")
    settings = _settings(found, options)
    recipe = Recipe(base, models, weights, outside_layers, resolve, dtype, exempt_1d)
    plan, notes = prepare(recipe, out, settings)
    works = _works(plan, found, seed)
    chosen, said = _kernel(kernel)
    notes += [said] if said else []
    check_tied(plan)
    fingerprint = _fingerprint(plan, works, [method, seed, exempt_1d, allow_nonfinite])
    try:
        with _complete(out, fingerprint) as (folder, journal):
            with CheckpointWriter(folder, plan.specs) as writer:
                if not writer.taken_up:
                    journal.forget()
                engine = Engine(chosen, writer, journal, progress, allow_nonfinite, fsync)
                _merge_all(engine, works, threads or default_threads())
                notes += _nonfinite(journal.done)
                notes += _hand_through(plan, writer)
                notes += write_companions(
                    folder,
                    plan,
                    name=name,
                    method=method,
                    options={key.rstrip("_"): value for key, value in settings.items()},
                    seed=seed,
                    source=source,
                )
                if fsync:
                    writer.sync()
            if fsync:
                _sync(folder)
    finally:
        plan.close()
    return tuple(notes)


def check(
    base: Path,
    models: Mapping[str, Path],
    weights: LayerWeights | None,
    out: Path,
    *,
    method: str = "dare_ties",
    options: Mapping[str, Any] | None = None,
    outside_layers: Literal["mean", "base"] = "mean",
    resolve: Resolve | None = None,
    dtype: str | None = None,
    exempt_1d: bool = False,
    seed: int = 0,
    source: str | None = None,
) -> list[str]:
    """All that `merge` finds before it begins, from headers alone; arguments, errors as there."""
    found = component("methods", method, "merge.method")
    recipe = Recipe(base, models, weights, outside_layers, resolve, dtype, exempt_1d)
    plan, notes = prepare(recipe, out, _settings(found, options))
    works = _works(plan, found, seed)
    size = sum(work.tensor.size * SIZES[work.dtype] for work in works)
    plan.close()
    return [f"{len(works)} tensors of {len(models)} models, {size / 1e9:.2f} GB to write", *notes]


def _settings(found: Component, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """All options of a method."""
    given = check_options(found, options or {}, "merge")
    return {key: p.default for key, p in found.options.items()} | given


def _kernel(wanted: Literal["auto", "numba", "numpy"]) -> tuple[native.Kernel, str]:
    """The kernel and a note, if it is not the one that was hoped for."""
    if wanted == "numpy":
        return blend.piece_of, ""
    chosen, said = native.fastest()
    if said and wanted == "numba":
        raise RunError(said)
    return chosen, said


def _works(plan: Plan, method: Component, seed: int) -> list[Work]:
    """What there is to merge, in the order in which it is written."""
    works = []
    labels = (f"{plan.base.folder}: the base", *_named(plan))
    for name, (dtype, shape) in plan.specs.items():
        if not plan.base.tensors[name].floating or 0 in shape:
            continue
        weights, options = plan.resolve(name)
        keys = tuple(mask_key(seed, label, plan.twin(name)) for label in plan.models)
        tensor = MergedTensor(name, shape, weights, plan.base, tuple(plan.models.values()), keys)
        asked = partial(method.function, **options)
        spared = partial(exempt, asked) if plan.exempt_1d and len(shape) < 2 else asked
        outline = spared(Outline(tensor))  # errors come before any work
        if len(outline.weights) != tensor.models:
            raise InputError(
                f"merge.method: {method.name} wants the weights of the models; give `layer_weights`"
            )
        found = np.zeros(tensor.models + 2, np.int64)
        works.append(Work(tensor, labels, dtype, spared, tensor.size, found))
    return works


def _named(plan: Plan) -> list[str]:
    return [f"{model.folder}: model {label}" for label, model in plan.models.items()]


def _merge_all(engine: Engine, works: list[Work], threads: int) -> None:
    """All that the journal does not hold yet."""
    sizes = {work.tensor.name: work.tensor.size * work.traffic for work in works}
    engine.progress.start(sum(sizes.values()), "bytes")
    engine.progress.advance(sum(sizes[name] for name in engine.journal.done), note="kept")
    engine.run([w for w in works if w.tensor.name not in engine.journal.done], threads)


def _nonfinite(found: Mapping[str, Found]) -> list[str]:
    """What was let pass."""
    notes = []
    for name in sorted(found):
        counts = ", ".join(f"{count} in {label}" for label, count in found[name].items())
        if counts:
            notes.append(f"tensor `{name}`: values that are NaN or infinite: {counts}")
    return notes


def _fingerprint(plan: Plan, works: list[Work], made: list[object]) -> str:
    """Of all that the bytes of the result depend on; files count by path, size and time."""
    files = set()
    for model in (plan.base, *plan.models.values()):
        stored = getattr(model, "stored", model)
        files |= {info.file for info in stored.tensors.values()}
    told = {
        "files": [
            (str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(files)
        ],
        "models": [[label, str(model.folder.resolve())] for label, model in plan.models.items()],
        "tensors": [
            [
                w.tensor.name,
                w.dtype,
                w.tensor.keys,
                w.tensor.weights,
                plan.resolve(w.tensor.name)[1],
            ]
            for w in works
        ],
        "made": made,
    }
    digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=16)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


@contextmanager
def _complete(out: Path, fingerprint: str) -> Iterator[tuple[Path, Journal]]:
    """A folder beside `out` that takes its place if the block succeeds.

    It stays for the next try after an interrupt, and goes after an error.
    """
    target, folder = out.resolve(), partial_of(out)
    try:
        journal = Journal(folder, fingerprint)
    except OSError as error:
        raise _failed(out, error) from error
    with journal:
        try:
            yield folder, journal
            journal.remove()
            if target.exists():
                target.rmdir()  # empty, or it would have been refused
            folder.rename(target)
        except KeyboardInterrupt:
            raise
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _failed(out, error) from error
        except (RunError, InputError):
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _failed(out: Path, error: OSError) -> RunError:
    return RunError(f"{error.filename or out}: {error.strerror or error}; nothing was written")


def _sync(folder: Path) -> None:
    """Names and small files, too, are on the disk."""
    for path in (*folder.iterdir(), folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _hand_through(plan: Plan, writer: CheckpointWriter) -> list[str]:
    """Copy tensors that are no floats from the base; notes where the models do not agree."""
    notes = []
    for name, info in plan.base.tensors.items():
        if info.floating:
            continue
        for start in range(0, info.size, _COPIED):
            stored = plan.base.raw(name, start, min(_COPIED, info.size - start))
            writer.write(name, start, memoryview(stored.data))
        others = [
            label
            for label, model in plan.models.items()
            if not same_bytes(name, plan.base, name, model)
        ]
        if others:
            notes.append(
                f"tensor `{name}` differs in {', '.join(others)}; the base's is used, as it is no "
                "float"
            )
    return notes

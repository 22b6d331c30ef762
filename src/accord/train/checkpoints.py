"""Checkpoints of a row: written aside and renamed when complete, checked before one is used.

A kill leaves a checkpoint whole or in the folder aside; what lost bytes later (a disk was full, or
power failed before they were on disk) no longer has the sizes it was written with.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from accord.records import write_json

ASIDE = ".partial"
SIZES = "sizes.json"
PREFIX = "checkpoint-"


def complete(aside: Path, target: Path) -> None:
    """Note the sizes of the files of a checkpoint and move it to its place."""
    sizes = {str(p.relative_to(aside)): p.stat().st_size for p in aside.rglob("*") if p.is_file()}
    write_json(aside / SIZES, sizes)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint of a folder, and a sentence for each one that is skipped."""
    skipped = [
        f"{path.name}: an incomplete checkpoint, left by a kill while it was written, was skipped"
        for path in sorted((folder / ASIDE).glob(f"{PREFIX}*"))
    ]
    for path in sorted(_checkpoints(folder), key=step_of, reverse=True):
        lacking = _lacking(path)
        if lacking is None:
            return path, skipped
        skipped.append(f"{path.name}: a damaged checkpoint ({lacking}) was skipped")
    return None, skipped


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that were done."""
    return int(checkpoint.name.removeprefix(PREFIX))


def prune(folder: Path, keep: set[int]) -> None:
    """Remove all checkpoints but those of some steps."""
    for path in list(_checkpoints(folder)):
        if step_of(path) not in keep:
            # Renamed first: what a kill leaves of it must not be taken for a checkpoint.
            gone = path.with_name(f".{path.name}.gone")
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _checkpoints(folder: Path) -> Iterator[Path]:
    for path in folder.glob(f"{PREFIX}*"):
        if path.name.removeprefix(PREFIX).isdecimal():
            yield path


def _lacking(checkpoint: Path) -> str | None:
    """What of a checkpoint is not as it was written, or None."""
    try:
        sizes = json.loads((checkpoint / SIZES).read_text("utf-8"))
    except (OSError, ValueError):
        return f"no {SIZES}"
    for name, size in sizes.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes of {size}"
    return None

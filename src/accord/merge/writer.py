"""Writes a model folder: headers and index first, then tensors in place, in any order.

Unusual: a folder that a killed merge left is taken up again. What the files look like depends on
names, dtypes and shapes alone, so the same headers are written over themselves.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from accord.merge.checkpoint import INDEX, SINGLE
from accord.merge.headers import SIZES, TensorInfo, build_header

SHARD_SIZE = 5_000_000_000
Specs = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> dtype, shape


class CheckpointWriter:
    """The files of a model, open for writing; shards of at most `shard_size` bytes.

    A tensor is never split. `tensors` says where each of them goes, `taken_up` whether all files
    were there already.
    """

    def __init__(self, folder: Path, specs: Specs, shard_size: int = SHARD_SIZE) -> None:
        self.folder = folder
        self.tensors: dict[str, TensorInfo] = {}
        self.taken_up = True
        self._open = ExitStack()
        self._files: dict[Path, int] = {}
        shards = list(_shards(specs, shard_size))
        for number, names in enumerate(shards, start=1):
            sharded = f"model-{number:05}-of-{len(shards):05}.safetensors"
            file = folder / (sharded if len(shards) > 1 else SINGLE)
            header, infos = build_header(file, ((n, *specs[n]) for n in names))
            self.tensors |= infos
            end = max((info.stop for info in infos.values()), default=len(header))
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
            self._open.callback(os.close, descriptor)
            self._files[file] = descriptor
            self.taken_up &= os.fstat(descriptor).st_size == end
            os.pwrite(descriptor, header, 0)
            os.ftruncate(descriptor, end)
        if len(shards) > 1:
            self._write_index()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def _write_index(self) -> None:
        total = sum(info.stop - info.start for info in self.tensors.values())
        places = {name: info.file.name for name, info in sorted(self.tensors.items())}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def write(self, name: str, start: int, stored: memoryview) -> None:
        """The bytes of elements [start, ...) of a tensor. Raises OSError when the disk is full."""
        info = self.tensors[name]
        at = info.start + start * SIZES[info.dtype]
        while stored:
            written = os.pwrite(self._files[info.file], stored, at)
            stored, at = stored[written:], at + written

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        for descriptor in self._files.values():
            os.fsync(descriptor)


def _shards(specs: Specs, shard_size: int) -> Iterator[list[str]]:
    """Wide dtypes first, so that each tensor is aligned; then names, `layers.2` before `10`."""
    names: list[str] = []
    filled = 0
    for name in sorted(specs, key=lambda n: (-SIZES[specs[n][0]], _natural(n))):
        dtype, shape = specs[name]
        size = SIZES[dtype] * math.prod(shape)
        if names and filled + size > shard_size:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += size
    yield names


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers sort by length and then as text, which is by value."""
    parts = re.split(r"0*([0-9]+)", name)
    return [(len(part) if place % 2 else 0, part) for place, part in enumerate(parts)]

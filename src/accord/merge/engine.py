"""Reads, merges and writes all tensors: pieces of a few hundred KiB, on as many threads as wanted.

Unusual: nothing a thread does depends on another, so the bytes do not depend on threads. The work
is cut into parts of tensors; whoever comes to a tensor first asks the method what to do with it.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event, Lock

import numpy as np
from numpy.typing import NDArray

from accord.errors import RunError
from accord.merge.blend import CODES, Blend, Bytes, Piece
from accord.merge.headers import LARGEST, SIZES
from accord.merge.journal import Journal
from accord.merge.native import Kernel
from accord.merge.tensors import PIECE, MergedTensor
from accord.merge.writer import CheckpointWriter
from accord.progress import Progress

PART = 1 << 23  # elements: a thread takes no more of a tensor at once, so that none waits long


@dataclass
class Work:
    """A tensor that is being merged: what to do with it, what was found, how much is left."""

    tensor: MergedTensor
    labels: Sequence[str]  # of base and models
    dtype: str
    plan: Callable[[MergedTensor], Blend]
    left: int
    found: NDArray[np.int64]
    lock: Lock = field(default_factory=Lock)  # of the blend
    blend: Blend | None = None

    @property
    def traffic(self) -> int:
        """Bytes read and written for each element."""
        sources = (self.tensor.base, *self.tensor.others)
        read = (SIZES[s.tensors[self.tensor.name].dtype] for s in sources)
        return SIZES[self.dtype] + sum(read)

    def blended(self) -> Blend:
        """What the method says, asked once."""
        with self.lock:
            if self.blend is None:
                self.blend = self.plan(self.tensor)
            return self.blend


@dataclass(frozen=True)
class Engine:
    """Everything the threads share."""

    kernel: Kernel
    writer: CheckpointWriter
    journal: Journal
    progress: Progress
    allow_nonfinite: bool
    fsync: bool
    stop: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)  # of what the threads report

    def run(self, works: Sequence[Work], threads: int) -> None:
        """Merge them all. Raises RunError for NaN or infinity, or what does not fit the dtype."""
        parts = deque(
            (work, start, min(start + part, work.tensor.size))
            for work in works
            for part in [_aligned(PART, work.tensor)]
            for start in range(0, work.tensor.size, part)
        )
        with ThreadPoolExecutor(threads, "merge") as pool:
            running = {pool.submit(self._take, parts) for _ in range(threads)}
            try:
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            finally:
                self.stop.set()  # of an error or an interrupt: the others end with their piece

    def _take(self, parts: deque[tuple[Work, int, int]]) -> None:
        """What one thread does."""
        buffers = Buffers()
        while parts and not self.stop.is_set():
            try:
                work, start, stop = parts.popleft()
            except IndexError:
                return
            self._part(work, start, stop, buffers)

    def _part(self, work: Work, start: int, stop: int, buffers: "Buffers") -> None:
        tensor = work.tensor
        blend = work.blended()
        step = _aligned(PIECE, tensor) if blend.ranked else PIECE
        piece = self.kernel(blend, tensor.keys)
        found = np.zeros(tensor.models + 2, np.int64)
        data, out = buffers.of(tensor.models + 1, min(step, stop - start))
        for at in range(start, stop, step):
            if self.stop.is_set():
                return
            count = min(step, stop - at)
            found += self._piece(work, piece, at, count, data, out)
            if found.any():
                self._judge(work, found)
        with self.lock:
            work.found += found
            work.left -= stop - start
            if not work.left:
                if self.fsync:
                    self.writer.sync()
                self.journal.add(tensor.name, found_in(work))
                if self.fsync:
                    self.journal.sync()
            self.progress.advance((stop - start) * work.traffic, note=tensor.name)

    def _piece(
        self, work: Work, piece: Piece, at: int, count: int, data: Bytes, out: Bytes
    ) -> NDArray[np.int64]:
        rows = work.tensor.read(at, count, data)
        found = piece(rows, out, CODES[work.dtype], LARGEST[work.dtype])
        size = count * SIZES[work.dtype]
        self.writer.write(work.tensor.name, at, memoryview(out.data)[:size])
        return found

    def _judge(self, work: Work, found: NDArray[np.int64]) -> None:
        """Raise RunError for what was found, unless it is allowed."""
        if self.allow_nonfinite:
            return
        name = work.tensor.name
        for k, source in enumerate((work.tensor.base, *work.tensor.others)):
            if found[k]:
                bad = work.tensor.count_bad(source)
                raise RunError(
                    f"{work.labels[k]}: tensor `{name}` holds {bad} values that are NaN or "
                    "infinite; that model cannot be merged (--allow-nonfinite merges it all the "
                    "same)"
                )
        raise RunError(f"tensor `{name}`: merged values are too large for {work.dtype}")


def found_in(work: Work) -> dict[str, int]:
    """Values that are NaN or infinite in each model that has some."""
    return {
        label: int(count)
        for label, count in zip(work.labels, work.found[:-1].tolist(), strict=True)
        if count
    }


class Buffers:
    """The memory of one thread: a row for each input, one for the output; grown where needed."""

    def __init__(self) -> None:
        self.data = np.empty((0, 0), np.uint8)
        self.out = np.empty(0, np.uint8)

    def of(self, rows: int, count: int) -> tuple[Bytes, Bytes]:
        """[rows, 4 * count] and [4 * count] bytes or more."""
        if len(self.data) < rows or self.data.shape[1] < 4 * count:
            self.data = np.empty((rows, 4 * count), np.uint8)
            self.out = np.empty(4 * count, np.uint8)
        return self.data, self.out


def _aligned(count: int, tensor: MergedTensor) -> int:
    """About `count` elements: whole rows, and a multiple of 4."""
    unit = math.lcm(4, tensor.shape[-1] if tensor.shape else 1)
    return max(1, count // unit) * unit


def default_threads() -> int:
    """The processors this process may use, at most 8: more wait for memory."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 8)

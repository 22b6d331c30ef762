"""The vectors of texts, each encoded once, in a file while the work lasts.

Encoding a large collection takes hours; the file keeps what was encoded at a kill. It is a row of
records, each the hash of a text and its vector, after four bytes with the vectors' width.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import RunError
from accord.progress import SILENT, Progress
from accord.retrieve.asking import Encode

BATCH = 128
"""Texts encoded between two signs of progress, and lost at a kill."""


class Vectors:
    """`encode` with a memory, a file and progress; a `path` of None keeps no file."""

    def __init__(
        self, encode: Encode, path: Path | None = None, progress: Progress = SILENT
    ) -> None:
        self._encode, self._path, self._progress = encode, path, progress
        self._known: dict[bytes, NDArray[np.float32]] = {}
        if path is not None and path.is_file():
            self._read(path)

    def encode(self, texts: Sequence[str]) -> NDArray[Any]:
        """Vectors [len(texts), D]; a text that was encoded before costs nothing."""
        keys = [_key(text) for text in texts]
        new = {k: t for k, t in zip(keys, texts, strict=True) if k not in self._known}
        if new:
            self._progress.start(len(new), "texts encoded")
        for start in range(0, len(new), BATCH):
            batch = list(new)[start : start + BATCH]
            vectors = np.asarray(self._encode([new[k] for k in batch]), dtype=np.float32)
            self._known.update(zip(batch, vectors, strict=True))
            self._write(batch, vectors)
            self._progress.advance(len(batch))
        return np.stack([self._known[k] for k in keys]) if keys else self._encode(texts)

    def _read(self, path: Path) -> None:
        raw = path.read_bytes()
        kind = _kind(int.from_bytes(raw[:4], "little"))
        whole = max(0, len(raw) - 4) // kind.itemsize  # a kill may leave part of a record
        with path.open("r+b") as file:
            file.truncate(4 + whole * kind.itemsize if whole else 0)
        for record in np.frombuffer(raw, kind, whole, 4) if whole else ():
            self._known[record["key"].tobytes()] = record["vector"].copy()

    def _write(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        if self._path is None:
            return
        records = np.empty(len(keys), _kind(vectors.shape[1]))
        records["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
        records["vector"] = vectors
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                if file.tell() == 0:
                    file.write(vectors.shape[1].to_bytes(4, "little"))
                file.write(records.tobytes())
        except OSError as error:
            raise RunError(f"{self._path}: cannot be written: {error.strerror}") from None


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _kind(width: int) -> "np.dtype[np.void]":
    return np.dtype([("key", np.uint8, 32), ("vector", np.float32, width)])

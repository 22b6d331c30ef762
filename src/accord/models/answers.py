"""The answers of chat endpoints and local models by key, and the JSONL file that keeps them.

A finished answer is appended at once: what was paid for survives a kill.
"""

import json
import threading
from pathlib import Path
from typing import BinaryIO

from accord.errors import InputError, RunError

_HEAD = b'{"key": "'  # how each line of the file begins


class AnswerCache:
    """Answers by key, and the JSONL file that keeps them; a `path` of None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.lock = path, threading.Lock()
        self.known: dict[str, str] = {}
        self.file: BinaryIO | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = path.read_bytes() if path.exists() else b""
            self.known, whole = _read_cache(path, raw)
            self.file = path.open("ab")
            self.file.truncate(whole)
        except OSError as error:
            raise InputError(f"{path}: the cache cannot be opened: {error.strerror}") from None

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def add(self, key: str, text: str) -> None:
        """Keep an answer: it is in the file when this returns."""
        if self.file is None:
            return
        line = json.dumps({"key": key, "text": text}) + "\n"
        try:
            with self.lock:
                self.file.write(line.encode())
                self.file.flush()
        except OSError as error:
            raise RunError(f"{self.path}: the cache cannot be written: {error.strerror}") from None


def _read_cache(path: Path, raw: bytes) -> tuple[dict[str, str], int]:
    """The answers of a cache, and how many bytes of it are whole lines."""
    *lines, torn = raw.split(b"\n")
    # A kill may leave the beginning of a line of ours; anything else is not ours to cut off.
    if not (torn.startswith(_HEAD) or _HEAD.startswith(torn)):
        lines.append(torn)
    known = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            known[entry["key"]] = str(entry["text"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise InputError(
                f"{path} line {number}: not an answer of the cache; delete the line or the file"
            ) from None
    return known, len(raw) - len(torn)

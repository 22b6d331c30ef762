"""The answers of chat endpoints and local models by key, and the JSONL file that keeps them.

A finished answer is appended at once: what was paid for survives a kill.
"""

import fcntl
import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from accord.errors import InputError, RunError

_HEAD = b'{"key": "'  # how each line of the file begins


class Lines:
    """A JSONL file that grows by a line at a time, from several threads.

    `before` is what it held when it was opened, whole lines without their ends. Each line begins
    with `head`; the beginning of one that a kill left at the end is cut off, and nothing else is.
    `what` names the file in errors, `exclusive` refuses it while another process has it open so.
    Raises InputError if it cannot be opened.
    """

    def __init__(self, path: Path, head: bytes, what: str, *, exclusive: bool = False) -> None:
        self.path, self.what, self.lock = path, what, threading.Lock()
        self.file: BinaryIO | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("ab")
            if exclusive:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raw = path.read_bytes()
        except BlockingIOError:
            self.close()
            raise InputError(f"{path}: another process is writing it; wait for it") from None
        except OSError as error:
            raise InputError(f"{path}: {what} cannot be opened: {error.strerror}") from None
        *self.before, torn = raw.split(b"\n")
        if torn.startswith(head) or head.startswith(torn):
            self.torn = len(torn)
        else:  # not ours to cut off
            self.before.append(torn)
            self.torn = 0

    def begin(self) -> None:
        """Cut off what is torn; called when the lines before were found to be as they should."""
        if self.file is not None and self.torn:
            self.file.truncate(self.path.stat().st_size - self.torn)

    def clear(self) -> None:
        """Empty the file."""
        if self.file is not None:
            self.file.truncate(0)
            self.before, self.torn = [], 0

    def add(self, line: str) -> None:
        """Append a line: it is in the file when this returns. After `close` nothing is."""
        try:
            with self.lock:
                if self.file is not None:
                    self.file.write(line.encode() + b"\n")
                    self.file.flush()
        except OSError as error:
            raise RunError(
                f"{self.path}: {self.what} cannot be written: {error.strerror}"
            ) from None

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            if self.file is not None:
                with suppress(OSError):  # of what could not be added, which was said then
                    self.file.close()
                self.file = None


class AnswerCache:
    """Answers by key, and the JSONL file that keeps them; a `path` of None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, str] = {}
        self.lines: Lines | None = None
        if path is None:
            return
        self.lines = Lines(path, _HEAD, "the cache")
        try:
            self.known = _read_cache(path, self.lines.before)
        except InputError:
            self.close()
            raise
        self.lines.begin()

    def close(self) -> None:
        """Close the file."""
        if self.lines is not None:
            self.lines.close()

    def add(self, key: str, text: str) -> None:
        """Keep an answer: it is in the file when this returns."""
        if self.lines is not None:
            self.lines.add(json.dumps({"key": key, "text": text}))


def _read_cache(path: Path, lines: list[bytes]) -> dict[str, str]:
    known = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            known[entry["key"]] = str(entry["text"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise InputError(
                f"{path} line {number}: not an answer of the cache; delete the line or the file"
            ) from None
    return known

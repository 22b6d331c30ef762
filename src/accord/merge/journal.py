"""Which tensors of an unfinished merge are done, so that a killed one goes on where it stopped.

The first line names the plan, each further line a tensor whose bytes have been handed to the
system, with what was found in it. A line is written after the bytes, so a torn last line only means
that its tensor is merged again.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from accord.errors import RunError

NAME = "journal.jsonl"
Found = Mapping[str, int]  # label of a model -> values that are NaN or infinite


class Journal:
    """The journal of the folder that a merge writes; taken up if it is of the same plan."""

    def __init__(self, folder: Path, plan: str) -> None:
        self.folder, self.plan = folder, plan
        self.done: dict[str, Found] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._open = ExitStack()
        with ExitStack() as opened:
            # The folder is locked, not the journal, which goes before the folder is put in place.
            self._folder = _opened(opened, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            self._lock()
            self._file = _opened(opened, folder / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            if not self._take_up():
                self._begin()
            self._open = opened.pop_all()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def _lock(self) -> None:
        """Raise RunError where another merge has the folder, or has just put it in place."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(self._folder), os.stat(self.folder))  # noqa: PTH116
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError:
            return  # a network's file system without locks
        if not mine:
            raise RunError(
                f"{self.folder}: another merge is writing there; wait for it, or give another "
                "folder"
            )

    def _take_up(self) -> bool:
        text = os.pread(self._file, os.fstat(self._file).st_size, 0)
        whole = text[: text.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            if not lines or lines[0] != {"plan": self.plan}:
                return False
            self.done = {line["tensor"]: dict(line["found"]) for line in lines[1:]}
        except (ValueError, KeyError, TypeError):  # what a power failure leaves
            return False
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        return True

    def _begin(self) -> None:
        """Nothing of another plan stays."""
        for path in self.folder.iterdir():
            if path.name != NAME:
                folder = path.is_dir() and not path.is_symlink()
                shutil.rmtree(path) if folder else path.unlink()
        self.forget()

    def forget(self) -> None:
        """Nothing is done."""
        self.done = {}
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._line({"plan": self.plan})

    def add(self, tensor: str, found: Found) -> None:
        """`tensor` is written."""
        self.done[tensor] = found
        self._line({"tensor": tensor, "found": found})

    def _line(self, content: Mapping[str, object]) -> None:
        os.write(self._file, json.dumps(content).encode() + b"\n")

    def sync(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self._file)

    def remove(self) -> None:
        """The merge is complete."""
        (self.folder / NAME).unlink()


def _opened(opened: ExitStack, path: Path, flags: int) -> int:
    """A descriptor that is closed with the rest."""
    descriptor = os.open(path, flags, 0o644)
    opened.callback(os.close, descriptor)
    return descriptor

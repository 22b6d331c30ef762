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
        self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise RunError(
                f"{folder}: another merge is writing there; wait for it, or give another folder"
            ) from None
        if not self._take_up():
            self._begin()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def _take_up(self) -> bool:
        text = os.pread(self._file, os.fstat(self._file).st_size, 0)
        whole = text[: text.rfind(b"\n") + 1]
        lines = [json.loads(line) for line in whole.splitlines()]
        if not lines or lines[0] != {"plan": self.plan}:
            return False
        self.done = {line["tensor"]: line["found"] for line in lines[1:]}
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        return True

    def _begin(self) -> None:
        """Nothing of another plan stays."""
        for path in self.folder.iterdir():
            if path.name != NAME:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
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

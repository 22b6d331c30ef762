"""The run folder: what was done, from which inputs, and what may be kept.

A stage is kept when the key of its last complete run is the key it would have now. The key is a
hash of everything the result depends on: the stage's options, the content of its input files, the
outputs of earlier stages, and this package's version. The manifest is written last, so a stage
that was killed has none and is done again.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accord import __version__
from accord.config import Config
from accord.errors import InputError, RunError
from accord.records import explain, write_json, write_text

MANIFEST = "manifest.json"
KEY = ".key"
LOCK = ".lock"
HASHES = ".hashes.json"
LOG = "log.jsonl"  # of a training: it tells times, and nothing depends on it


class Run:
    """A run folder, locked against a second process while it is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes = _read_object(folder / HASHES) or {}
        self._lock: int | None = None

    def open(self, config: Mapping[str, Any]) -> None:
        """Take the folder for this run; it must be empty, absent, or a run folder already.

        Raises InputError if it holds something else, RunError if another process works in it.
        """
        self.require_usable()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise InputError(
                f"{self.folder}: cannot be written ({_reason(error)}); give another folder with -o"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise RunError(
                f"{self.folder}: another process is running in it; wait for it"
            ) from None
        write_json(self.folder / "config.json", {"accord": __version__, **config})

    def require_usable(self) -> None:
        """Raise InputError if the folder holds something that is no run."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; -o wants a folder")
        # A run that was killed, or had no space, before its config was written left these.
        ours = {LOCK, ".config.json.partial"}
        if (
            self.folder.is_dir()
            and any(path.name not in ours for path in self.folder.iterdir())
            and not _is_ours(self.folder / "config.json")
        ):
            raise InputError(
                f"{self.folder}: is not empty and is no run folder; give another folder with -o"
            )

    def close(self) -> None:
        """Release the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.folder / name

    def event(self, stage: str, what: str, **details: Any) -> None:
        """Append one line to events.jsonl."""
        entry = {"time": round(time.time(), 3), "stage": stage, "event": what, **details}
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a complete stage, else None."""
        found = _read_object(self.stage(stage) / MANIFEST)
        if found is None or not isinstance(found.get("outputs"), dict) or "key" not in found:
            return None
        return found

    def is_fresh(self, stage: str, key: str) -> bool:
        """Whether the stage is complete under `key` and its files are still what they were."""
        manifest = self.manifest(stage)
        return manifest is not None and manifest["key"] == key and self.is_intact(stage)

    def is_intact(self, stage: str) -> bool:
        """Whether the stage is complete and its files hash to what its manifest says."""
        manifest = self.manifest(stage)
        if manifest is None:
            return False
        for name, digest in manifest["outputs"].items():
            path = self.stage(stage) / name
            if not path.is_file() or self.hash_file(path) != digest:
                return False
        return True

    def begin(self, stage: str, key: str, *, anew: bool = False, keep: bool = False) -> Path:
        """Make the stage's folder ready for work under `key`.

        What a killed run left under the same key stays, to be continued, unless `anew`. All else
        goes: what belongs to another key, and a complete stage whose files were changed since. With
        `keep` the files of another key stay, and the stage decides what of them is still good.
        """
        folder = self.stage(stage)
        mark = folder / KEY
        complete = (folder / MANIFEST).exists()
        if anew or complete or not mark.is_file() or mark.read_text("utf-8") != key:
            keep = keep and not anew and (not complete or self.is_intact(stage))
            mark.unlink(missing_ok=True)  # first: what a kill leaves of the rest must not be kept
            if keep:
                (folder / MANIFEST).unlink(missing_ok=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            write_text(mark, key)
        return folder

    def finish(self, stage: str, key: str, inputs: Mapping[str, Any], **details: Any) -> None:
        """Hash the stage's files and write its manifest."""
        folder = self.stage(stage)
        files = sorted(
            p for p in folder.rglob("*") if p.is_file() and p.name not in {MANIFEST, KEY, LOG}
        )
        outputs = {str(p.relative_to(folder)): self.hash_file(p) for p in files}
        self.save_hashes()
        write_json(
            folder / MANIFEST,
            {"stage": stage, "key": key, "inputs": inputs, "outputs": outputs, **details},
        )

    def hash_file(self, path: Path) -> str:
        """sha256 of a file; not read again while its size and time of change stay the same."""
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        known = self._hashes.get(str(path.resolve()))
        if isinstance(known, list) and known[:2] == stamp:
            return str(known[2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if _HAS_FILE_DIGEST else _digest(file)
        self._hashes[str(path.resolve())] = [*stamp, digest.hexdigest()]
        return digest.hexdigest()

    def hash_folder(self, folder: Path) -> str:
        """One hash of all files under a folder, by relative name."""
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != LOG)
        return hash_json({str(p.relative_to(folder)): self.hash_file(p) for p in files})

    def save_hashes(self) -> None:
        """Keep the known hashes for the next process."""
        write_json(self.folder / HASHES, self._hashes)


_HAS_FILE_DIGEST = hasattr(hashlib, "file_digest")  # Python >= 3.11


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest


def hash_json(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_ours(marker: Path) -> bool:
    return "accord" in (_read_object(marker) or {})


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file of ours; None if it is absent or was damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_config(folder: Path) -> Config:
    """The resolved config of a run folder; raises InputError if it is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder")
    found = _read_object(folder / "config.json")
    if found is None or "accord" not in found:
        raise InputError(f"{folder}: is no run folder of accord (no config.json of a run)")
    try:
        return Config.model_validate({k: v for k, v in found.items() if k != "accord"})
    except ValidationError as error:
        raise InputError(f"{folder / 'config.json'}: {explain(error)}") from None

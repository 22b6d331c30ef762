"""The files of a probe beside SCORES: what was answered, what failed, and what was asked of whom.

Every answer is appended as it arrives, so a kill loses none and nothing is asked twice. Answers to
other settings are never mixed in.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import InputError
from accord.models.answers import Lines
from accord.probe.plan import Ask, Key
from accord.records import Answer, read_records, to_json, write_json

_HEAD = b'{"model": "'


class Files:
    """Where the files of a probe are: STEM.answers.jsonl and its neighbours."""

    def __init__(self, scores: Path) -> None:
        if not scores.name:  # `.` and `/`
            raise InputError(f"-o: {scores}: is a folder; a file is wanted")
        stem = scores.name.removesuffix(".json")
        self.scores = scores
        self.answers = scores.with_name(f"{stem}.answers.jsonl")
        self.failed = scores.with_name(f"{stem}.failed.jsonl")
        self.variations = scores.with_name(f"{stem}.variations.jsonl")
        self.settings = scores.with_name(f"{stem}.probe.json")
        self.page = scores.with_name(f"{stem}.md")
        self.verdict = scores.with_name(f"{stem}.gate.md")

    def require_room(self, read: Iterable[Path | None], *, made: bool) -> None:
        """Raise InputError where one of them would take the place of a folder, a device, or of a
        file of `read`, the user's own. `made`: variations are written as well.
        """
        own = {path.resolve() for path in read if path is not None}
        for path in vars(self).values():
            if path == self.variations and not made:
                continue
            if path.is_dir():
                raise InputError(f"-o: {path}: is a folder; a file is wanted")
            if path.exists() and not path.is_file():
                raise InputError(f"-o: {path}: is there and no ordinary file; choose another -o")
            if path.resolve() in own:
                raise InputError(
                    f"-o: {path}: is read by this command and would be overwritten; choose "
                    "another -o"
                )


class Ledger:
    """The answers so far, and where new ones and failures go. `close()` it.

    `wanted`: id -> query of all that may be asked. `force` starts anew. Raises InputError where the
    answers that are there belong to other settings or other wordings.
    """

    def __init__(
        self, files: Files, settings: Mapping[str, Any], wanted: Mapping[str, str], *, force: bool
    ) -> None:
        self.files, self.answers = files, dict[Key, Answer]()
        self.lines = Lines(files.answers, _HEAD, "the file of answers", exclusive=True)
        try:
            if force:
                self.lines.clear()
            if any(self.lines.before):
                self._require_same(settings)
            self.lines.begin()
            for answer in read_records(files.answers, Answer):
                self._keep(answer, wanted)
            write_json(files.settings, settings)
            files.failed.unlink(missing_ok=True)
            self.failures = Lines(files.failed, b'{"id": "', "the file of failures")
        except BaseException:
            self.lines.close()
            raise

    def close(self) -> None:
        """Close the files; without failures there is no file of them."""
        self.lines.close()
        self.failures.close()
        if not self.files.failed.stat().st_size:
            self.files.failed.unlink()

    def clear(self) -> None:
        """Forget the answers."""
        self.lines.clear()
        self.answers.clear()

    def add(self, answer: Answer) -> None:
        """Keep an answer: it is in the file when this returns."""
        self.lines.add(to_json(answer))
        self.answers[answer.id, answer.contexts, answer.repeat] = answer

    def fail(self, ask: Ask, reason: str, tries: int) -> None:
        """Write down what has no answer, and why."""
        entry = {"id": ask.id, "contexts": ask.contexts, "repeat": ask.repeat}
        self.failures.add(json.dumps({**entry, "reason": reason, "tries": tries}))

    def todo(self, asks: Sequence[Ask]) -> list[Ask]:
        """Those that have no answer yet."""
        return [ask for ask in asks if ask.key not in self.answers]

    def _require_same(self, settings: Mapping[str, Any]) -> None:
        path = self.files.settings
        try:
            before = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict):
            raise InputError(
                f"{self.files.answers}: holds answers and {path.name}, which says to what they "
                "are, cannot be read; --force starts anew, or choose another -o"
            )
        # As JSON gives them back.
        now = json.loads(json.dumps(settings))
        other = [name for name in now if now[name] != before.get(name)]
        if other:
            raise InputError(
                f"{self.files.answers}: holds answers to another {' and another '.join(other)}; "
                "--force starts anew, or choose another -o"
            )

    def _keep(self, answer: Answer, wanted: Mapping[str, str]) -> None:
        if wanted.get(answer.id) != answer.query:
            raise InputError(
                f"{self.files.answers}: `{answer.id}` was asked as `{answer.query[:60]}`, which is "
                "not how it stands in the questions and variations now; --force starts anew, or "
                "choose another -o"
            )
        key = answer.id, answer.contexts, answer.repeat
        if key in self.answers:
            raise InputError(
                f"{self.files.answers}: `{answer.id}` with contexts `{answer.contexts}` and repeat "
                f"{answer.repeat} stands there twice; delete one of the two lines"
            )
        self.answers[key] = answer

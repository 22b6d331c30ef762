"""Rankings of queries as they arrive, in a JSONL file: what was found survives a kill."""

from pathlib import Path

from accord.errors import RunError
from accord.records import read_records, to_json
from accord.retrieve.received import Ranking


class Journal:
    """Rankings by query, and the file that keeps them; a `path` of None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, Ranking] = {}
        self._file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        # A kill may leave the beginning of a line.
        self._file.truncate(self._file.read().rfind(b"\n") + 1)
        self.known = {found.query: found for found in read_records(path, Ranking)}

    def add(self, ranking: Ranking) -> None:
        """Keep a ranking, unless its query failed: that is to be asked again."""
        if ranking.failed is not None:
            return
        self.known[ranking.query] = ranking
        if self._file is None:
            return
        try:
            self._file.write((to_json(ranking) + "\n").encode())
            self._file.flush()
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

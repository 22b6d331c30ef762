"""Which files of a data set are a split of it, told from their names.

The names are those that data sets on the hub have: `train-00000-of-00002.parquet`, `train.jsonl`,
`data/test.jsonl`, `CONFIG/train/0000.parquet`. What names no split is the split train.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from accord.errors import InputError

DEFAULT = "default"  # the config of a data set that has one only
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_CALLED = {word: split for split, words in _SPLITS.items() for word in words}
_SHARD = re.compile(r"([\w.]+)-\d{5}-of-\d{5}(-[0-9a-f]+)?")  # any split may be cut in shards


class DataFile(NamedTuple):
    """A file of rows: its name in the repository, and the split and config it is of."""

    name: str
    split: str
    config: str


def choose(names: Sequence[str], split: str | None, config: str | None, where: str) -> list[str]:
    """The files of one split of one config, by name.

    Raises InputError beginning with `where` if there are none, or if it is not clear which.
    """
    files = [describe(name) for name in sorted(names) if _is_data(name)]
    if not files:
        raise InputError(
            f"{where}: has no .jsonl or .parquet file; for other formats the hub may have Parquet "
            "at the revision refs/convert/parquet"
        )
    split = _CALLED.get(split, split) if split else None
    files = _narrowed(files, "config", config, where)
    files = _narrowed(files, "split", split, where)
    endings = sorted({PurePosixPath(file.name).suffix for file in files})
    if len(endings) > 1:
        raise InputError(
            f"{where}: has this split as {' and as '.join(endings)}; name the files, one by one"
        )
    return [file.name for file in files]


def _narrowed(files: list[DataFile], field: str, wanted: str | None, where: str) -> list[DataFile]:
    """The files of the wanted split or config; of the only one, where none is named."""
    known = sorted({str(getattr(file, field)) for file in files})
    shown = ", ".join(known)
    if wanted is None and len(known) > 1:
        raise InputError(f"{where}: has the {field}s {shown}; say which, as ?{field}={known[0]}")
    if wanted is not None and wanted not in known:
        raise InputError(f"{where}: has no {field} `{wanted}`; it has {shown}")
    return [file for file in files if wanted is None or getattr(file, field) == wanted]


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in {".jsonl", ".parquet"} and not any(
        part.startswith((".", "_")) for part in path.parts
    )


def describe(name: str) -> DataFile:
    """The split and the config that a file's name tells."""
    path = PurePosixPath(name)
    split, above = _split_of(path.stem), [part for part in path.parts[:-1] if part != "data"]
    if split is None and above and (above[-1] in _CALLED or path.stem.isdigit()):
        split = _CALLED.get(above[-1], above[-1])
    split = split or "train"
    if above and split == _CALLED.get(above[-1], above[-1]):
        above.pop()
    return DataFile(name, split, "/".join(above) or DEFAULT)


def _split_of(stem: str) -> str | None:
    shard = _SHARD.fullmatch(stem)
    if shard:
        return _CALLED.get(shard[1], shard[1])
    words = re.split(r"[-._\s\d]+", stem)
    return next((_CALLED[word] for word in words if word in _CALLED), None)

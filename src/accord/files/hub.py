"""Data sets on the model hub, by address: one file, or all files of a split.

    hf://datasets/OWNER/NAME[@REVISION]/FOLDER/FILE.jsonl
    hf://datasets/OWNER/NAME[@REVISION][?config=NAME&split=NAME]

An address may stand wherever a path does, and a path holds one slash where an address has two, so
both are read. What was fetched once is read from the hub's own cache while the hub cannot be
reached, or with HF_HUB_OFFLINE=1. A token comes from the environment, as huggingface_hub finds it.
"""

import re
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qsl

from accord.errors import InputError
from accord.files.shards import choose
from accord.files.snapshot import NOT_CACHED, snapshot

_ADDRESS = re.compile(
    r"hf:/+datasets/(?P<repo>[\w.-]+/[\w.-]+)"
    r"(@(?P<revision>refs/(convert|pr)/[^/?]+|[^/?]+))?"
    r"(/(?P<file>[^?]+))?(\?(?P<asked>.*))?"
)
_FORM = "hf://datasets/OWNER/NAME/FILE.jsonl or hf://datasets/OWNER/NAME?split=train"


class Address(NamedTuple):
    """A data set at a revision, and one file of it or one split of a config."""

    repo: str
    revision: str | None
    file: str | None
    split: str | None
    config: str | None

    @property
    def home(self) -> str:
        """The address of the data set alone."""
        return f"hf://datasets/{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub(path: Path) -> bool:
    """Whether a path is an address of the hub."""
    return str(path).startswith("hf:/")


def shown(path: Path) -> str:
    """A path as people write it."""
    return re.sub("^hf:/+", "hf://", str(path))


def parse(path: Path) -> Address:
    """The parts of an address. Raises InputError for what is none."""
    found = _ADDRESS.fullmatch(str(path))
    if found is None:
        raise InputError(f"{shown(path)}: is no address of a data set; {_FORM} is wanted")
    repo, revision, file, asked = found.group("repo", "revision", "file", "asked")
    options = dict(parse_qsl(asked or "", keep_blank_values=True))
    unknown = [name for name in options if name not in ("split", "config")]
    if unknown:
        raise InputError(f"{shown(path)}: `{unknown[0]}`: only split and config may be asked for")
    if file and options:
        raise InputError(f"{shown(path)}: names a file, which has no {min(options)}; leave it out")
    if file and PurePosixPath(file).suffix not in (".jsonl", ".parquet"):
        raise InputError(f"{shown(path)}: a file that ends in .jsonl or .parquet is wanted")
    return Address(repo, revision, file, options.get("split"), options.get("config"))


def fetch(path: Path) -> list[tuple[str, Path]]:
    """(its address, where it lies) of each file that an address names, in order.

    Raises InputError where the hub, or the cache of it, does not have them.
    """
    address = parse(path)
    names = _listing(address)
    if address.file is None:
        chosen = choose(names, address.split, address.config, shown(path))
    elif address.file in names:
        chosen = [address.file]
    else:
        near = get_close_matches(address.file, names, 1, 0)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise InputError(f"{address.home}: has no file `{address.file}`{hint}")
    folder = snapshot(address.repo, address.revision, address.home, chosen)
    for name in chosen:
        if not (folder / name).is_file():  # the listing was of another commit
            raise InputError(f"{address.home}: `{name}` was changed meanwhile; run again")
    return [(f"{address.home}/{name}", folder / name) for name in chosen]


def _listing(address: Address) -> list[str]:
    """The names of all files of a data set, at the commit that its revision stands for now."""
    folder = snapshot(address.repo, address.revision, address.home)
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        found = get_cached_repo_tree(address.repo, repo_type="dataset", revision=address.revision)
    except CachedRepoTreeNotFoundError:
        # Offline, and another program fetched single files: whether those of a split are all there
        # cannot be known.
        if address.file is None:
            raise InputError(f"{address.home}: {NOT_CACHED}") from None
        return [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
    return [file.path for file in found]

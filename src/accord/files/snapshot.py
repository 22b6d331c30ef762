"""Files of a data set on the hub, brought into the hub's own cache, or found there."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from accord.errors import InputError

_SMALL = (".gitattributes", "README.md")  # with them comes the listing of a data set
NOT_CACHED = (
    "cannot be had from the hub, and its cache here has not all of it; fetch it once with a "
    "connection and without HF_HUB_OFFLINE, or name files of your own"
)


def snapshot(repo: str, revision: str | None, where: str, names: Sequence[str] = _SMALL) -> Path:
    """The folder in the hub's cache that has these files of a data set, and perhaps others.

    Whatever is wanted, the cache has the listing of all its files then. Raises InputError beginning
    with `where` if the files cannot be had.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError

        # That of the client it uses, which has changed.
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # isort: skip
    except ImportError:
        raise InputError(
            f'{where}: a data set of the hub needs `pip install "accord[data]"`'
        ) from None
    try:
        with _quiet(bars=names is not _SMALL and sys.stderr.isatty()):
            folder = snapshot_download(
                repo,
                repo_type="dataset",
                revision=revision,
                allow_patterns=[escape(name) for name in names],
            )
        return Path(folder)
    except IncompleteSnapshotError as error:
        if names is _SMALL:  # fetched without them by another program
            return Path(error.snapshot_path)
        raise InputError(f"{where}: {NOT_CACHED}") from None
    except (HFValidationError, HTTPError, OSError) as error:
        raise InputError(f"{where}: {_why(error)}") from None


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """huggingface_hub without warnings, such as that a data set has no README, and perhaps bars."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before, hide = get_verbosity(), not (bars or are_progress_bars_disabled())
    set_verbosity(logging.ERROR)
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(before)
        if hide:
            enable_progress_bars()


def _why(error: Exception) -> str:
    """What kept the hub from giving a data set, and the way out."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return "its owner asks for terms to be accepted: do so on its page, and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return "no such data set, or a private one; check the name, or set HF_TOKEN to a key to it"
    if isinstance(error, RevisionNotFoundError):
        return "no such revision; leave it out for the newest"
    if isinstance(error, HFValidationError):
        return "is no name of a data set; OWNER/NAME is wanted"
    cause = error.__cause__ or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub refuses it with status {status}; set HF_TOKEN to a key to it"
    return f"{NOT_CACHED} ({f'status {status}' if status else type(cause).__name__})"

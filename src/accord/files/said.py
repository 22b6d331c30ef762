"""What errors about files say."""

import json
import reprlib
from pathlib import Path
from typing import Any

from accord.errors import InputError


def unreadable(name: str, error: OSError, wanted: str) -> InputError:
    """Why a file cannot be read, as an error for the user."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{name}: no such file")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{name}: is a folder; {wanted} is wanted")
    return InputError(f"{name}: cannot be read: {(error.strerror or '').lower()}")


def short(value: Any) -> str:
    """A value as JSON, cut after 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, RecursionError):  # keys that JSON has not; deep lists
        text = reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def named(value: Any) -> str:
    """A text as it is, else `short`; cut after 60 characters."""
    return short(value) if not isinstance(value, str) or len(value) > 60 else value


def is_there(path: Path) -> bool:
    """Whether a path exists; one that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_unicode(text: str) -> bool:
    """Whether a text can be written: escapes of JSON and YAML make lone surrogates, too."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

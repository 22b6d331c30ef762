"""What errors about files say."""

import json
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
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."

"""What the retrievers that search data.passages share."""

from collections.abc import Sequence

from accord.errors import InputError
from accord.records import Passage


def full_text(passage: Passage) -> str:
    """Title and text, as they are indexed."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def require_passages(passages: Sequence[Passage]) -> None:
    """Raise InputError if there is nothing to search."""
    if not passages:
        raise InputError("data.passages: no passages to retrieve from; name a passages.jsonl")

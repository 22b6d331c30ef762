"""A yes or no that a model gave as JSON, read strictly: nothing is guessed."""

import json
import re
from typing import Any

_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


def read_verdict(reply: str, name: str) -> bool | None:
    """`name` of a reply that is one JSON object, alone or in one code fence; else None."""
    text = reply.strip()
    fenced = _FENCED.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, bool) else None


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; ValueError if it says one thing twice, as Python's parser would not mind."""
    if len(dict(items)) < len(items):
        raise ValueError("a repeated key")
    return dict(items)

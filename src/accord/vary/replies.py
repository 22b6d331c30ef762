"""What a model replied, read strictly: a list of rewordings, or a verdict. Nothing is guessed."""

import json
import re
from typing import Any

from accord.vary.outcome import Skip

_TRIES = 20  # brackets from which a list is looked for
_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)  # line breaks inside a string are let pass


def read_rewordings(reply: str) -> list[str] | Skip:
    """The strings of the first JSON list of strings in a reply, each on one line.

    A reply that is empty, holds no such list or is cut off in it is a skip with that reason.
    """
    if not reply.strip():
        return Skip("the reply is empty")
    starts = [match.start() for match in re.finditer(r"\[", reply)][:_TRIES]
    for start in starts:
        values = _list_at(reply, start)
        if values:
            return [_line(value) for value in values]
    if starts and "]" not in reply[starts[0] :]:
        return Skip("the reply's JSON list is cut off")
    return Skip("the reply holds no JSON list of strings")


def read_verdict(reply: str) -> bool | None:
    """`same` of a reply that is one JSON object, alone or in one code fence; else None."""
    text = reply.strip()
    fenced = _FENCED.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    found = value.get("same") if isinstance(value, dict) else None
    return found if isinstance(found, bool) else None


def _list_at(reply: str, start: int) -> list[str]:
    try:
        values, _ = _DECODER.raw_decode(reply, start)
    except (ValueError, RecursionError):
        return []
    return values if all(isinstance(value, str) for value in values) else []


def _line(value: str) -> str:
    """One line that UTF-8 can hold: half of a surrogate pair is replaced."""
    return " ".join(value.encode("utf-8", "replace").decode("utf-8").split())


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; ValueError if it says one thing twice."""
    if len(dict(items)) < len(items):
        raise ValueError("a repeated key")
    return dict(items)

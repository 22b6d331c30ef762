"""What a model replied, read strictly: a list of rewordings, or a verdict. Nothing is guessed."""

import json
import re

from accord.models import verdict
from accord.vary.outcome import Skip

_TRIES = 20  # brackets from which a list is looked for
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
    return verdict.read_verdict(reply, "same")


def _list_at(reply: str, start: int) -> list[str]:
    try:
        values, _ = _DECODER.raw_decode(reply, start)
    except (ValueError, RecursionError):
        return []
    return values if all(isinstance(value, str) for value in values) else []


def _line(value: str) -> str:
    """One line that UTF-8 can hold: half of a surrogate pair is replaced."""
    return " ".join(value.encode("utf-8", "replace").decode("utf-8").split())

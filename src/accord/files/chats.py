"""Rows of chat and completion data as questions.

`{"messages": [...]}`, the usual format of chat fine-tuning: the last user turn is the query, the
assistant's turn after it the answer, all earlier ones are kept as `turns`. `{"prompt": ...,
"completion": ...}`: two texts, or two lists of messages. Such a question is put to a model `as_is`:
`chat`, as turns of a conversation, or `text`, as a text to be completed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from accord.errors import InputError
from accord.files.said import short

AsIs = Literal["chat", "text"]
Role = Literal["system", "user", "assistant"]
ROLES = ("system", "user", "assistant")
_FIELDS = ("messages", "prompt", "completion")
_Message = dict[str, str]


class _Chat(NamedTuple):
    """What is asked after which turns, and the answer to it; `field` is where the query stood."""

    field: str
    turns: Sequence[_Message]
    query: str
    answer: str | None
    as_is: AsIs = "chat"


def as_question(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the question that a row is; a row with a `query` is one already.

    Raises InputError naming the field for a chat that is malformed. What is made has an `id`: the
    row's own, or one made from what is asked.
    """
    given = {name for name in ("query", *_FIELDS) if row.get(name) is not None}
    if "messages" in given:
        beside = sorted(given - {"messages"})
        if beside:
            raise InputError(f"field `messages`: `{beside[0]}` is there too; give one of the two")
        return _question(row, _last_asked("messages", _messages("messages", row["messages"])))
    if "query" in given or not given:
        return dict(row)
    if "prompt" not in given:
        raise InputError("field `prompt` is missing; `completion` alone asks nothing")
    return _question(row, _completed(row["prompt"], row.get("completion")))


def _completed(prompt: Any, completion: Any) -> _Chat:
    if isinstance(prompt, str):
        if completion is not None and not isinstance(completion, str):
            raise _found("completion", completion, "a text, as `prompt` is one,")
        return _Chat("prompt", [], prompt, completion, "text")
    asked = _messages("prompt", prompt)
    if asked[-1]["role"] != "user":
        raise _found("prompt", asked[-1]["role"], "a user's turn as the last one")
    said = [] if completion is None else _messages("completion", completion)
    return _last_asked("completion", [*asked, *said])._replace(field="prompt")


def _messages(field: str, value: Any) -> list[_Message]:
    """The turns of a list, with role and content alone."""
    if not isinstance(value, list) or not value:
        raise _found(field, value, "a list of turns with `role` and `content`")
    turns = []
    for number, turn in enumerate(value):
        if not isinstance(turn, dict):
            raise _found(f"{field}.{number}", turn, "a turn with `role` and `content`")
        role, content = turn.get("role"), turn.get("content")
        if role not in ROLES:
            raise _found(f"{field}.{number}.role", role, "system, user or assistant")
        if not isinstance(content, str):
            raise _found(f"{field}.{number}.content", content, "a text")
        turns.append({"role": role, "content": content})
    return turns


def _last_asked(field: str, turns: list[_Message]) -> _Chat:
    asked = [number for number, turn in enumerate(turns) if turn["role"] == "user"]
    if not asked:
        raise _found(field, [turn["role"] for turn in turns], "a user's turn, which is the query,")
    after = turns[asked[-1] + 1 :]
    roles = [turn["role"] for turn in after]
    if roles not in ([], ["assistant"]):
        raise _found(field, roles, "one assistant's turn, or none, after the last user's")
    answer = after[0]["content"] if after else None
    return _Chat(field, turns[: asked[-1]], turns[asked[-1]]["content"], answer)


def _found(field: str, value: Any, wanted: str) -> InputError:
    return InputError(f"field `{field}`: found {short(value)}; {wanted} is wanted")


def _question(row: Mapping[str, Any], chat: _Chat) -> dict[str, Any]:
    if not chat.query.strip():
        raise InputError(f"field `{chat.field}`: the last thing asked is empty; a text is wanted")
    fields = {name: value for name, value in row.items() if name not in _FIELDS}
    if chat.answer is not None:
        if fields.get("answer") is not None:
            raise InputError(f"field `answer`: `{chat.field}` has an answer too; give one of them")
        fields["answer"] = chat.answer
    if fields.get("id") is None:
        pairs = [(turn["role"], turn["content"]) for turn in chat.turns]
        fields["id"] = made_id(chat.query, pairs)
    return fields | {"query": chat.query, "turns": list(chat.turns), "as_is": chat.as_is}


def made_id(query: str, turns: Iterable[tuple[str, str]]) -> str:
    """The id of what has none: the same for the same query after the same turns."""
    said = json.dumps([query, [list(turn) for turn in turns]])
    return "m-" + hashlib.sha256(said.encode()).hexdigest()[:12]

"""Questions posted to an OpenAI-compatible server, and what its completions say."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple, cast

from accord.errors import RunError
from accord.generate.prompting import Asked
from accord.generate.request import Reply, kept
from accord.generate.served import PURPOSE, WHERE, Door
from accord.models.answers import AnswerCache
from accord.models.asking import STOPPED, Manners
from accord.models.posting import NOT_FOUND, REDIRECT, REFUSED
from accord.models.service import Result, Service, text

_ANSWER, _ENDED = "answer", "finish_reason"


class Question(NamedTuple):
    """A request as it is posted; `key` names its answer in the cache."""

    model: str
    repeat: int
    asked: Asked
    body: dict[str, Any]
    key: str

    def reply(self, answer: str, ended: bool = True, failed: str = "") -> Reply:
        """The reply to it."""
        one = self.asked
        return Reply(self.model, self.repeat, one.id, answer, one.cut, ended, failed=failed)


def service(door: Door, manners: Manners, *, chat: bool) -> Service:
    """Posts bodies to the chat completions of a server, or to its plain ones."""
    keyed = door.api_key_env and os.environ.get(door.api_key_env, "").strip()
    return Service(
        door.at("/chat/completions" if chat else "/completions"),
        body='"{{ body }}"',
        paths={
            _ANSWER: "choices[0].message" if chat else "choices[0]",
            _ENDED: "choices[0].finish_reason",
        },
        optional=[_ENDED],
        checks={_ANSWER: _text_of_message if chat else _text_of_choice},
        headers={"Authorization": f"Bearer ${{{door.api_key_env}}}"} if keyed else {},
        rate=manners.rate,
        concurrency=manners.concurrency,
        timeout=manners.timeout,
        tries=manners.tries,
        sleep=manners.sleep,
        where=WHERE,
        purpose=PURPOSE,
        mends={_ANSWER: "give the address of an OpenAI-compatible server"},
    )


def ask(
    asker: Service,
    todo: Sequence[Question],
    cache: AnswerCache,
    trouble: Callable[[], str],
) -> Iterator[Reply]:
    """The replies to the questions of one model, each kept as soon as it is there.

    A question that fails for itself is a reply. Raised is what makes it useless to ask on: a
    refused key, an address that is none, a server that is gone; `trouble` says what is known of it.
    """

    def keep(number: int, result: Result) -> None:
        cache.add(todo[number].key, kept(*_said(result)))

    done, reasons, last = 0, dict[str, str](), None
    arrivals = asker.arrivals([{"body": one.body} for one in todo], keep=keep)
    with closing(cast(Generator[tuple[int, Result], None, None], arrivals)) as found:
        for number, result in found:
            if result.values is not None:
                done += 1
                yield todo[number].reply(*_said(result))
                continue
            if result.reason in (REFUSED, NOT_FOUND, REDIRECT):
                raise asker.error(result)
            if result.reason == STOPPED:
                why = trouble() or (str(asker.error(last)) if last else asker.url)
                raise RunError(
                    f"{WHERE}: `{todo[0].model}`: {done} of {len(todo)} answers came and are kept, "
                    f"then no more came: {why}; run again to ask for the others"
                )
            last = result
            # Details differ from question to question, and reasons are counted.
            shown = f"{result.reason}: {result.detail}" if result.detail else result.reason
            yield todo[number].reply("", failed=reasons.setdefault(result.reason, shown))


def _said(result: Result) -> tuple[str, bool]:
    """(answer, ended) of a result that has values."""
    values = result.values or {}
    return values[_ANSWER].strip(), values[_ENDED] != "length"


def _text_of_message(message: Any) -> str:
    """A check. The content is null where the model said nothing."""
    if not isinstance(message, dict) or "content" not in message:
        raise ValueError("a message without content")
    return text("" if message["content"] is None else message["content"])


def _text_of_choice(choice: Any) -> str:
    """A check."""
    if not isinstance(choice, dict) or "text" not in choice:
        raise ValueError("a choice without a text")
    return text(choice["text"])

"""What a backend is asked and what it replies.

A backend is a function

    @register("backends", "transformers")
    def transformers(jobs: Sequence[Job], *, prompt: Prompt, max_new_tokens: int,
                     cache: AnswerCache, ...) -> Iterator[Reply]

that yields one reply for every request of every job, in any order, decoded greedily. It looks into
`cache` before it asks and adds to it at once, under a key made of all that an answer depends on,
`Job.weights` among it. Keyword-only parameters with a default are its options.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from accord.files.chats import AsIs
from accord.records import Passage, Turn


class Request(NamedTuple):
    """A query with its passages, best first; `id` is a hash of both, `name` a wording that asks it.

    `turns` come before it, and `as_is` says how it is put without passages, as in a Wording. What
    several wordings, rows or kinds of contexts ask alike is one request.
    """

    id: str
    name: str
    query: str
    passages: tuple[Passage, ...]
    turns: tuple[Turn, ...] = ()
    as_is: AsIs | None = None


class Job(NamedTuple):
    """Everything one model is asked.

    `weights` is the content hash of `folder`. `repeat` > 0: asked once more, as part of other
    batches, so that what depends on chance and rounding can be told from what does not.
    """

    model: str
    folder: str
    weights: str
    repeat: int
    requests: tuple[Request, ...]


class Reply(NamedTuple):
    """A model's answer.

    `cut`: passages were cut to fit its window. `ended`: the model ended the answer itself.
    `plain`: it was decoded without shared prefixes, because its attention does not allow for them.
    `failed`: why there is no answer; nothing is kept then, and a later run asks again.
    """

    model: str
    repeat: int
    id: str
    answer: str
    cut: bool = False
    ended: bool = True
    plain: bool = False
    failed: str = ""


def request(
    name: str,
    query: str,
    passages: Sequence[Passage],
    turns: Sequence[Turn] = (),
    as_is: AsIs | None = None,
) -> Request:
    """A request with the id that it has wherever it comes from."""
    said: list[Any] = [query, [[p.title or "", p.text] for p in passages]]
    if turns or as_is:
        said += [as_is, [[turn.role, turn.content] for turn in turns]]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]
    return Request(digest, name, query, tuple(passages), tuple(turns), as_is)


def kept(answer: str, ended: bool) -> str:
    """How an answer is held in the cache."""
    return json.dumps([answer, ended])


def unkept(text: str) -> tuple[str, bool]:
    """(answer, ended) as `kept` wrote them."""
    answer, ended = json.loads(text)
    return answer, ended

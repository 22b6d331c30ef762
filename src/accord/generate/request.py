"""What a backend is asked and what it replies.

A backend is a function

    @register("backends", "transformers")
    def transformers(jobs: Sequence[Job], *, prompt: Prompt, max_new_tokens: int, ...)
        -> Iterator[Reply]

that yields one reply for every request of every job, the replies of one job together and the jobs
in order. Decoding is greedy. Keyword-only parameters with a default are its options.
"""

from typing import NamedTuple

from accord.records import Passage


class Request(NamedTuple):
    """One wording with its passages, best first."""

    id: str
    query: str
    passages: tuple[Passage, ...]


class Job(NamedTuple):
    """Everything one model is asked."""

    model: str
    folder: str
    requests: tuple[Request, ...]


class Reply(NamedTuple):
    """A model's answer, and whether passages were cut to fit its window."""

    model: str
    id: str
    answer: str
    cut: bool

"""The prompts of requests, built once for all rows of a run, and which are decoded together.

The same text goes to every backend: as token ids, or as the turns of a chat, where a server applies
the model's chat template itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from accord.config import Prompt
from accord.generate.batches import grouped, in_batches
from accord.generate.request import Job, Request
from accord.models.base import load_tokenizer, window_of
from accord.models.prompt import Prompter
from accord.records import Turn


class Asked(NamedTuple):
    """A request as a prompt: token ids, and the turns of a chat, the user's own last.

    `cut` if passages were shortened to fit.
    """

    id: str
    ids: tuple[int, ...]
    turns: tuple[Turn, ...]
    cut: bool


class Prompts:
    """Builds the prompts of a run; its models share a tokenizer and a window, those of `folder`.

    `ends` are the tokens that end an answer, `end` the first of them; `chat` whether there is a
    chat template. `longest`: at most so many tokens with the answer, if that is less than the
    window.
    """

    def __init__(
        self, folder: Path, prompt: Prompt, max_new_tokens: int, longest: int | None = None
    ) -> None:
        self.tokenizer = load_tokenizer(folder)
        self._prompter = Prompter(self.tokenizer, prompt.template)
        self.end, self.chat = self._prompter.end, self._prompter.has_chat_template
        self.ends = sorted({self.end, self.tokenizer.eos_token_id} - {None})
        fits = window_of(folder)
        room = min(fits, longest or fits) - max_new_tokens
        self.budget = min(room, prompt.max_tokens or room)
        self._built: dict[str, Asked] = {}

    def build(self, one: Request) -> Asked:
        """The prompt of a request. Raises InputError if it does not fit even without passages."""
        if one.id not in self._built:
            found = self._prompter.build(
                one.name, one.query, one.passages, self.budget, one.turns, one.as_is
            )
            self._built[one.id] = Asked(one.id, found.ids, found.turns, found.cut)
        return self._built[one.id]


def in_company(
    job: Job,
    built: Mapping[str, Asked],
    size: int,
    fits: Callable[[list[list[Asked]]], bool] = lambda batch: True,
) -> list[tuple[tuple[Asked, ...], ...]]:
    """A job's batches of at most `size` prompts; a group has the same passages and earlier turns.

    `fits`: whether groups may be one batch. The longest come first: prompts of like length are
    decoded together, and workers end together.
    """
    before = {
        one.id: (one.turns, tuple((p.id, p.text) for p in one.passages)) for one in job.requests
    }
    groups = grouped(before, before)
    for group in groups:
        group.sort(key=lambda id_: (built[id_].ids, id_))
    groups.sort(key=lambda group: (-max(len(built[id_].ids) for id_ in group), group))
    prompts = [[built[id_] for id_ in group] for group in groups]
    return [tuple(map(tuple, batch)) for batch in in_batches(prompts, size, job.repeat, fits)]


def by_row(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs of each model together: all its repeats while it is loaded."""
    for _, row in groupby(jobs, key=lambda job: (job.model, job.folder)):
        yield list(row)

"""Training examples as token ids, and what is drawn for each by (seed, epoch, example id)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from accord.errors import InputError
from accord.models.prompt import Prompter
from accord.records import Passage, Wording
from accord.train.batches import MicroBatch
from accord.train.neighbours import Neighbours


@dataclass(frozen=True)
class Example:
    """One wording: its prompt, its answer, and its bare query (what the triplet reads)."""

    name: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    query: tuple[int, ...]
    cut: bool
    original: str = ""


def tokenize(
    prompter: Prompter,
    wording: Wording,
    passages: Sequence[Passage],
    *,
    window: int,
    max_prompt: int | None,
    reserve: int,
) -> Example:
    """Tokenise one wording; passages are cut where prompt and answer do not fit the window.

    `reserve` is what generation keeps free for its answer, so that both see the same prompt.
    Raises InputError naming the wording where the answer, or the question, does not fit.
    """
    completes = wording.as_is == "text" and not passages
    answer = prompter.answer_ids(wording.answer or "", completes=completes)
    if len(answer) >= window:
        raise InputError(
            f"train: the answer of `{wording.original_id}` takes {len(answer)} tokens and the "
            f"model's window is {window}; shorten it or leave the question out of the train split"
        )
    budget = min(window - max(reserve, len(answer)), max_prompt or window)
    prompt = prompter.build(
        wording.id, wording.query, passages, budget, wording.turns, wording.as_is
    )
    query = prompter.tokenizer(wording.query)["input_ids"]
    return Example(
        wording.id, prompt.ids, answer, tuple(query), prompt.cut, original=wording.original_id
    )


@dataclass(frozen=True)
class Batch:
    """A micro-batch with its examples, and what was drawn for them.

    `branches`: anchors, positives and negatives of the triplets that are due, None where none are;
    `partners`: for each of `examples` another wording of its question, or None.
    """

    examples: tuple[Example, ...]
    branches: tuple[tuple[Example, ...], ...] | None
    partners: tuple[Example | None, ...]
    tokens: int
    count: int


class Examples:
    """The examples of one row; an index is a whole micro-batch. Set `epoch` before each.

    `needs` says what is drawn: `triplets`, `pairs` or nothing.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        needs: str | None = None,
        neighbours: Neighbours | None = None,
        seed: int = 0,
    ) -> None:
        self.examples, self.needs = tuple(examples), needs
        self.neighbours, self.seed = neighbours, seed
        self.epoch = 0
        self._wordings: dict[str, list[int]] = {}
        for row, example in enumerate(self.examples):
            self._wordings.setdefault(example.original, []).append(row)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, micro: MicroBatch) -> Batch:
        """The batch of a plan (torch's loader asks so for what its batch sampler gave)."""
        rows = tuple(self.examples[row] for row in micro.rows)
        branches = None
        if self.neighbours is not None and micro.second is not None:
            drawn = [(row, *self.draw(row)) for row in micro.second]
            branches = tuple(tuple(self.examples[d[b]] for d in drawn) for b in range(3))
        partners = tuple(self.partner(row) for row in micro.rows) if self.needs == "pairs" else ()
        return Batch(rows, branches, partners, micro.tokens, micro.examples)

    def draw(self, row: int) -> tuple[int, int]:
        """The rows of the positive and of the negative of an example in this epoch."""
        assert self.neighbours is not None
        return self.neighbours.draw(row, self.examples[row].name, self.seed, self.epoch)

    def partner(self, row: int) -> Example | None:
        """Another wording of the same question in this epoch, if there is one."""
        own = self.examples[row]
        others = [
            self.examples[other]
            for other in self._wordings[own.original]
            if self.examples[other].prompt != own.prompt
        ]
        if not others:
            return None
        key = f"pair\x1f{self.seed}\x1f{self.epoch}\x1f{own.name}"
        digest = hashlib.sha256(key.encode()).digest()
        return others[int.from_bytes(digest[:8], "big") % len(others)]

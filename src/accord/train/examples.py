"""Training examples as token ids, and the batches made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accord.models.losses import IGNORED, pad_left
from accord.models.prompt import Prompter
from accord.records import Passage, Wording
from accord.train.neighbours import Neighbours


@dataclass(frozen=True)
class Example:
    """One wording: its prompt, its answer, and its bare query (what the triplet reads)."""

    name: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    query: tuple[int, ...]
    cut: bool


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
    """
    answer = prompter.answer_ids(wording.answer or "")
    # A reference longer than half the window would leave no room for the question.
    answer = answer[: window // 2]
    budget = min(window - max(reserve, len(answer)), max_prompt or window)
    prompt = prompter.build(wording.id, wording.query, passages, budget)
    query = prompter.tokenizer(wording.query)["input_ids"]
    return Example(wording.id, prompt.ids, answer, tuple(query), prompt.cut)


class Examples(torch.utils.data.Dataset):  # type: ignore[misc]
    """The examples of one specialist; with neighbours, each comes with a positive and a negative.

    The draw depends on (seed, epoch, example id) only: `epoch` is set at the start of each.
    """

    def __init__(
        self, examples: Sequence[Example], neighbours: Neighbours | None, seed: int
    ) -> None:
        self.examples, self.neighbours, self.seed = examples, neighbours, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: int) -> dict[str, Any]:
        example = self.examples[row]
        item: dict[str, Any] = {"prompt": example.prompt, "answer": example.answer}
        if self.neighbours is not None:
            near, far = self.neighbours.draw(row, example.name, self.seed, self.epoch)
            item["triplet"] = (example.query, self.examples[near].query, self.examples[far].query)
        return item


def collate(items: Sequence[Mapping[str, Any]], pad: int) -> dict[str, Tensor]:
    """Left-padded tensors: `input_ids`, `attention_mask`, `labels` [N, S]; `keep`, the positions
    that need logits; with triplets also `triplet_ids` and `triplet_mask` [3N, Q]: all anchors,
    then all positives, then all negatives.
    """
    rows = [[*item["prompt"], *item["answer"]] for item in items]
    labels = [[IGNORED] * len(item["prompt"]) + [*item["answer"]] for item in items]
    batch = {
        "input_ids": pad_left(rows, pad),
        "attention_mask": pad_left([[1] * len(row) for row in rows], 0),
        "labels": pad_left(labels, IGNORED),
        "keep": torch.tensor(max(len(item["answer"]) for item in items) + 1),
    }
    if "triplet" in items[0]:
        queries = [list(item["triplet"][branch]) for branch in range(3) for item in items]
        batch["triplet_ids"] = pad_left(queries, pad)
        batch["triplet_mask"] = pad_left([[1] * len(query) for query in queries], 0)
    return batch

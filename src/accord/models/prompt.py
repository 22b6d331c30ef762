"""A question and its passages as the token ids of a prompt: passages first, question last.

The same text goes to training and to generation. It is one user turn, because not every chat
template knows a system turn; a tokenizer without a template gets plain text that ends in
`Answer:`. If it does not fit the window, passages are cut from the last one up, never the
question or the instruction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from accord.errors import InputError
from accord.models.template import FAILURES
from accord.records import Passage

if TYPE_CHECKING:
    from accord.models.base import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """Token ids, whether passages were cut to fit, and the text of the user's turn."""

    ids: tuple[int, ...]
    cut: bool
    turn: str


class Prompter:
    """Builds prompts for one tokenizer and one template."""

    def __init__(self, tokenizer: "Tokenizer", template: Path | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = load_template(template)
        self.has_chat_template = bool(tokenizer.chat_template)
        self.end = self._end_of_turn()

    def build(self, name: str, query: str, passages: Sequence[Passage], budget: int) -> Prompt:
        """The prompt of one wording in at most `budget` tokens.

        Raises InputError naming the wording if instruction and question alone are longer.
        """
        kept = list(passages)
        turn, ids = self._ids(query, kept)
        cut = False
        while len(ids) > budget and kept:
            cut = True
            shorter = self._shortened(kept[-1], len(ids) - budget)
            kept[-1:] = [shorter] if shorter else []
            turn, ids = self._ids(query, kept)
        if len(ids) > budget:
            raise InputError(
                f"question `{name}`: instruction and question alone take {len(ids)} tokens and "
                f"only {budget} are left for the prompt; shorten the question or raise "
                "prompt.max_tokens"
            )
        return Prompt(tuple(ids), cut, turn)

    def answer_ids(self, answer: str) -> tuple[int, ...]:
        """What the model should say: the answer's tokens and the end of the turn."""
        text = answer if self.has_chat_template else " " + answer
        return (*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.end)

    def _shortened(self, passage: Passage, surplus: int) -> Passage | None:
        """The passage less its last `surplus` tokens and at least a word; None if that is all."""
        ids = self.tokenizer(passage.text, add_special_tokens=False)["input_ids"]
        text = self.tokenizer.decode(ids[: max(0, len(ids) - surplus)], skip_special_tokens=True)
        words = passage.text.split()
        kept = words[: min(len(text.split()), len(words) - 1)]
        return passage.model_copy(update={"text": " ".join(kept)}) if kept else None

    def _ids(self, query: str, passages: Sequence[Passage]) -> tuple[str, list[int]]:
        # Plain dicts: through the methods of a record a template could leave the sandbox.
        plain = [passage.model_dump() for passage in passages]
        try:
            text = self.template.render(query=query, passages=plain).strip()
        except FAILURES as error:
            raise InputError(f"prompt.template: cannot be rendered: {error}") from None
        if not self.has_chat_template:
            return text, list(self.tokenizer(text + "\nAnswer:")["input_ids"])
        ids = self.tokenizer(self._chat(text), add_special_tokens=False)["input_ids"]
        return text, list(ids)

    def _chat(self, text: str, answer: str | None = None) -> str:
        turns = [{"role": "user", "content": text}]
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=answer is None
            )
        except FAILURES as error:
            raise InputError(f"the model's chat template cannot be rendered: {error}") from None
        return rendered

    def _end_of_turn(self) -> int:
        """What ends an answer: the special token after it in the chat template, else eos."""
        eos: int | None = self.tokenizer.eos_token_id
        if self.has_chat_template:
            rest = self._chat("Q", "ANSWER").rpartition("ANSWER")[2]
            after = self.tokenizer(rest.lstrip(), add_special_tokens=False)["input_ids"]
            added = self.tokenizer.added_tokens_decoder
            if after and after[0] in added and added[after[0]].special:
                return int(after[0])
        if eos is None:
            raise InputError("the tokenizer has no end-of-text token, so answers could not end")
        return eos


def load_template(path: Path | None) -> Template:
    """The prompt template, sandboxed: the built-in one, or a file of the user's."""
    if path is None:
        text = resources.files("accord.models").joinpath("prompt.jinja").read_text("utf-8")
    else:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"prompt.template: {path} cannot be read: {error}") from None
    try:
        return ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
        ).from_string(text)
    except TemplateError as error:
        raise InputError(f"prompt.template: {path}: {error}") from None

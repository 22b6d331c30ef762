"""A question and its passages as the token ids of a prompt: passages first, question last.

The same text goes to training and to generation. It is one user turn, because not every chat
template knows a system turn; a tokenizer without a template gets plain text that ends in
`Answer:`. If it does not fit the window, passages are cut from the last one up, never the
question or the instruction.

A question with turns before it comes after them. One that is put as it is, and has no passages, is
the user's turn by itself; as a text to be completed it is the whole prompt, where there is no chat
template, and its answer comes right after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from accord.errors import InputError
from accord.files.chats import AsIs
from accord.models.template import FAILURES
from accord.records import Passage, Turn

if TYPE_CHECKING:
    from accord.models.base import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """Token ids, whether passages were cut to fit, and the turns of a chat that they are."""

    ids: tuple[int, ...]
    cut: bool
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class _Frame:
    """What is around a query: the turns before it, and how it is put (None: by the template)."""

    turns: tuple[Turn, ...]
    as_is: AsIs | None


class Prompter:
    """Builds prompts for one tokenizer and one template."""

    def __init__(self, tokenizer: "Tokenizer", template: Path | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = load_template(template)
        self.has_chat_template = bool(tokenizer.chat_template)
        self.end = self._end_of_turn()

    def build(
        self,
        name: str,
        query: str,
        passages: Sequence[Passage],
        budget: int,
        turns: Sequence[Turn] = (),
        as_is: AsIs | None = None,
    ) -> Prompt:
        """The prompt of one wording in at most `budget` tokens.

        `turns` and `as_is` are those of the wording. Raises InputError naming the wording if
        instruction and question alone, with the turns before it, are longer.
        """
        frame = _Frame(tuple(turns), None if passages else as_is)
        kept = list(passages)
        asked, ids = self._ids(query, kept, frame)
        cut = False
        while len(ids) > budget and kept:
            cut = True
            shorter = self._shortened(kept[-1], len(ids) - budget)
            kept[-1:] = [shorter] if shorter else []
            asked, ids = self._ids(query, kept, frame)
        if len(ids) > budget:
            what = "instruction and question" if frame == _Frame((), None) else "its turns"
            raise InputError(
                f"question `{name}`: {what} alone take {len(ids)} tokens and only {budget} are "
                "left for the prompt; shorten the question or raise prompt.max_tokens"
            )
        return Prompt(tuple(ids), cut, asked)

    def answer_ids(self, answer: str, *, completes: bool = False) -> tuple[int, ...]:
        """What the model should say: the answer's tokens and the end of the turn.

        `completes`: the answer goes on where the prompt ends, a text that was put as it is.
        """
        text = answer if self.has_chat_template or completes else " " + answer
        return (*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.end)

    def _shortened(self, passage: Passage, surplus: int) -> Passage | None:
        """The passage less its last `surplus` tokens and at least a word; None if that is all."""
        ids = self.tokenizer(passage.text, add_special_tokens=False)["input_ids"]
        text = self.tokenizer.decode(ids[: max(0, len(ids) - surplus)], skip_special_tokens=True)
        words = passage.text.split()
        kept = words[: min(len(text.split()), len(words) - 1)]
        return passage.model_copy(update={"text": " ".join(kept)}) if kept else None

    def _ids(
        self, query: str, passages: Sequence[Passage], frame: _Frame
    ) -> tuple[tuple[Turn, ...], list[int]]:
        text = self._rendered(query, passages) if frame.as_is is None else query
        asked = (*frame.turns, Turn(role="user", content=text))
        if self.has_chat_template:
            chat = self._chat(asked)
            return asked, list(self.tokenizer(chat, add_special_tokens=False)["input_ids"])
        plain = "\n".join(turn.content for turn in asked)
        if frame.as_is != "text":
            plain += "\nAnswer:"
        return asked, list(self.tokenizer(plain)["input_ids"])

    def _rendered(self, query: str, passages: Sequence[Passage]) -> str:
        # Plain dicts: through the methods of a record a template could leave the sandbox.
        plain = [passage.model_dump() for passage in passages]
        try:
            return self.template.render(query=query, passages=plain).strip()
        except FAILURES as error:
            raise InputError(f"prompt.template: cannot be rendered: {error}") from None

    def _chat(self, turns: Sequence[Turn]) -> str:
        plain = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                plain, tokenize=False, add_generation_prompt=turns[-1].role == "user"
            )
        except FAILURES as error:
            raise InputError(f"the model's chat template cannot be rendered: {error}") from None
        return rendered

    def _end_of_turn(self) -> int:
        """What ends an answer: the special token after it in the chat template, else eos."""
        eos: int | None = self.tokenizer.eos_token_id
        if self.has_chat_template:
            said = [Turn(role="user", content="Q"), Turn(role="assistant", content="ANSWER")]
            rest = self._chat(said).rpartition("ANSWER")[2]
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

"""A local language model asked as an endpoint is: prompts in, replies out, kept in a cache.

One prompt at a time: its text then depends on the model, the prompt and the seed alone, not on
what it shares a batch with.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accord.models.answers import AnswerCache
from accord.models.endpoint import Reply

TOO_LONG = "the prompt is longer than the model's window"


class Generator:
    """A transformers model folder and how to ask it; loaded at the first prompt that needs it.

    A temperature of 0 decodes greedily. Prompts go through the chat template where there is one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        temperature: float = 0.0,
        max_tokens: int = 512,
        cache: Path | None = None,
    ) -> None:
        self.folder, self.temperature, self.max_tokens = folder, temperature, max_tokens
        self.cache = cache
        self._identity = _identity(folder)
        self._loaded: tuple[Any, Any] | None = None

    def ask_all(self, prompts: Sequence[str], *, seed: int) -> Iterator[Reply]:
        """One reply for each prompt, in their order; equal prompts are asked once.

        A prompt that leaves no room in the model's window is a reply without a text.
        Raises InputError for a folder that holds no language model, and for a damaged cache.
        """
        cache = AnswerCache(self.cache)
        known = cache.known
        try:
            for prompt in prompts:
                key = self.key(prompt, seed)
                if key in known:
                    yield Reply(known[key], cached=True)
                    continue
                text = self._generate(prompt, seed)
                if text is None:
                    yield Reply(None, TOO_LONG)
                    continue
                cache.add(key, text)
                known[key] = text
                yield Reply(text)
        finally:
            cache.close()

    def key(self, prompt: str, seed: int) -> str:
        """The name of an answer in the cache: SHA-256 of all that it depends on."""
        # Greedy decoding draws nothing.
        drawn = [self.temperature, seed] if self.temperature else []
        asked = [self._identity, prompt, self.max_tokens, *drawn]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def _generate(self, prompt: str, seed: int) -> str | None:
        import torch

        from accord.models.base import window

        model, tokenizer = self._model()
        ids = self._ids(tokenizer, prompt).to(model.device)
        room = window(model.config) - ids.shape[1]
        if room < 1:
            return None
        drawn = int(
            hashlib.sha256(f"{seed}\x1f{prompt}".encode("utf-8", "replace")).hexdigest(), 16
        )
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(drawn % 2**63)
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=self._decoding(tokenizer, min(room, self.max_tokens)),
            )
        reply: str = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        return reply.strip()

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import GenerationConfig

            from accord.models.base import load_model, load_tokenizer

            model, tokenizer = load_model(self.folder).eval(), load_tokenizer(self.folder)
            # Penalties that a model ships with would hold back the words of the query.
            model.generation_config = GenerationConfig()
            self._loaded = model, tokenizer
        return self._loaded

    def _ids(self, tokenizer: Any, prompt: str) -> Any:
        if not tokenizer.chat_template:
            return tokenizer(prompt, return_tensors="pt")["input_ids"]
        turns = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]

    def _decoding(self, tokenizer: Any, max_new_tokens: int) -> Any:
        from transformers import GenerationConfig

        from accord.models.prompt import Prompter

        ends = {Prompter(tokenizer).end, tokenizer.eos_token_id} - {None}
        sampling = {"temperature": self.temperature} if self.temperature else {}
        return GenerationConfig(
            do_sample=bool(self.temperature),
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(ends),
            pad_token_id=tokenizer.pad_token_id,
            **sampling,
        )


def _identity(folder: Path) -> list[list[Any]]:
    """The files of a model by name, size and time: other weights give other answers."""
    files = sorted(path for path in folder.glob("*") if path.is_file())
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]

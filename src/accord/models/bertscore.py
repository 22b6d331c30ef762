"""Contextual token vectors of a transformers encoder, for BERTScore (Zhang et al. 2020)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError

Vectors = NDArray[np.float32]

BATCH = 32  # texts


class TokenEmbedder:
    """An encoder in fp32 that gives each token of a text a vector. Loaded at the first call.

    `layer` counts from 0, the embeddings; None is the last one. As in the bert-score package the
    texts are stripped and cut to the window, and the marks around a text ([CLS] and [SEP]) are the
    first and the last row of its vectors.
    """

    def __init__(self, folder: Path, layer: int | None = None) -> None:
        self.folder = folder
        self.layer = layer
        self._tokenizer: Any = None
        self._model: Any = None

    def __call__(self, texts: Sequence[str]) -> list[Vectors]:
        """One array (tokens, D) a text, in the order of the texts.

        Texts of like length share a batch; padding moves a vector by 1e-6 at most.
        Raises InputError for a folder that holds no such encoder, or no such layer.
        """
        if not texts:
            return []
        if self._model is None:
            self._load()
        ids = self._tokenizer(
            [text.strip() for text in texts], max_length=self._window(), truncation=True
        )["input_ids"]
        found: list[Vectors] = [np.zeros((0, 0), np.float32)] * len(ids)
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            for row, vectors in zip(rows, self._embed([ids[r] for r in rows]), strict=True):
                found[row] = vectors
        return found

    def _embed(self, ids: list[list[int]]) -> Iterator[Vectors]:
        import torch

        batch = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt", padding_side="right")
        with torch.inference_mode():
            states = self._model(**batch, output_hidden_states=True).hidden_states
        layer = states[-1 if self.layer is None else self.layer].numpy()
        return (layer[row, : len(own)] for row, own in enumerate(ids))

    def _load(self) -> None:
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        from accord.models.base import quiet_transformers

        quiet_transformers()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
            model = AutoModel.from_pretrained(
                self.folder, local_files_only=True, use_safetensors=True
            )
        except (ValueError, KeyError, OSError, RuntimeError, SafetensorError) as error:
            line = str(error).strip().split("\n", 1)[0][:200]
            raise InputError(f"bertscore: {self.folder}: cannot be loaded: {line}") from error
        self._model = model.float().eval()
        self._check()

    def _check(self) -> None:
        layers = self._model.config.get_text_config().num_hidden_layers
        if self.layer is not None and not 0 <= self.layer <= layers:
            raise InputError(
                f"bertscore.layer: found {self.layer}; {self.folder} has the layers 0 to {layers}"
            )
        marks = set(self._tokenizer.all_special_ids)
        ids = self._tokenizer("a")["input_ids"]
        if len(ids) < 3 or ids[0] not in marks or ids[-1] not in marks:
            raise InputError(
                f"bertscore: {self.folder}: its tokenizer puts no mark at each end of a text, such "
                "as [CLS] and [SEP]; an encoder like BERT is wanted"
            )

    def _window(self) -> int:
        """Tokens that fit the model: RoBERTa's positions begin after the padding index."""
        config = self._model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None) or 512
        if config.model_type in {"roberta", "xlm-roberta", "camembert"}:
            positions -= config.pad_token_id + 1
        return int(min(positions, self._tokenizer.model_max_length))

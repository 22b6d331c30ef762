"""The sentence encoder: neighbours, the reference of the layer weights, and BS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError


class Encoder:
    """A sentence-transformers model in fp32. Loading it costs seconds: make one and keep it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._model: Any = None

    def _load(self) -> Any:
        _refuse_pickles(self.folder)
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer

        from accord.models.base import quiet_transformers

        quiet_transformers()
        try:
            return SentenceTransformer(str(self.folder), local_files_only=True)
        except (ValueError, KeyError, OSError, RuntimeError, SafetensorError) as error:
            line = str(error).strip().split("\n", 1)[0][:200]
            raise InputError(f"encoder: {self.folder}: cannot be loaded: {line}") from error

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(texts), D]; raises InputError if one is not finite."""
        if self._model is None:
            self._model = self._load()
        vectors: NDArray[np.float32] = self._model.encode(
            list(texts), batch_size=32, normalize_embeddings=True, show_progress_bar=False
        ).astype(np.float32)
        if not np.isfinite(vectors).all():
            raise InputError(f"encoder: {self.folder} gives vectors that are not finite")
        return vectors


def _refuse_pickles(folder: Path) -> None:
    """Raise InputError if a module of the encoder has its weights in a pickle alone."""
    for file in folder.rglob("*.bin"):
        if not any(file.parent.glob("*.safetensors")):
            raise InputError(
                f"encoder: {file} is a pickle, which is never read; save the encoder with "
                "safetensors"
            )

"""Causal language models and their tokenizers, by transformers."""

import ctypes
import os
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from accord.errors import InputError

CausalLM: TypeAlias = Any  # a transformers PreTrainedModel with a language-model head
Tokenizer: TypeAlias = Any  # a transformers PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def quiet_transformers() -> None:
    """No bars or advice from transformers: accord shows its own progress."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def device() -> str:
    """The device for training and generation: the first GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(folder: Path, dtype: str = "float32", where: str | None = None) -> CausalLM:
    """Load a causal language model; raises InputError if `folder` holds something else."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    quiet_transformers()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], local_files_only=True
        )
    except (ValueError, KeyError, OSError, RuntimeError, SafetensorError) as error:
        line = str(error).strip().split("\n", 1)[0][:200]
        raise InputError(
            f"{folder}: transformers cannot load it as a language model: {line}"
        ) from error
    return model.to(where or device())


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load a tokenizer that pads on the left, so that all answers end where the batch ends."""
    from transformers import AutoTokenizer

    quiet_transformers()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        line = str(error).strip().split("\n", 1)[0][:200]
        raise InputError(f"{folder}: no tokenizer that transformers can load: {line}") from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise InputError(f"{folder}: the tokenizer has no pad, end or unknown token to pad with")
    return tokenizer


def save_model(model: CausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that transformers, vLLM and mergekit load as it is (safetensors)."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def dequantise(gguf: Path, folder: Path) -> None:
    """Turn a GGUF file into an fp32 checkpoint with tokenizer and chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet_transformers()
    with redirect_stderr(StringIO()):  # its bar does not heed transformers' own switch
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
    # Without its quantisation mark the model is an ordinary one that save_pretrained accepts.
    model.hf_quantizer.remove_quantization_config(model)
    save_model(model, tokenizer, folder)


def find_layers(model: CausalLM, name: str) -> nn.ModuleList:
    """The decoder layers: the one module list as long as the config says.

    Raises InputError naming the model if there is none.
    """
    text = model.config.get_text_config()
    wanted = getattr(text, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
    raise InputError(
        f"{name}: its layers cannot be found: no list of {wanted} modules "
        "(num_hidden_layers) in the model"
    )


def window(model_config: Any) -> int:
    """Tokens that fit the model's context window."""
    text = model_config.get_text_config()
    for field in ("max_position_embeddings", "n_positions"):
        value = getattr(text, field, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2048


def window_of(folder: Path) -> int:
    """Tokens that fit the context window of the model in a folder."""
    from transformers import AutoConfig

    return window(AutoConfig.from_pretrained(folder, local_files_only=True))


def positions(attention_mask: Tensor) -> Tensor:
    """Position ids [N, S] of a left-padded batch: counted from each row's first real token.

    transformers does this in `generate` only; without it absolute positions (GPT-2) are wrong.
    """
    return (attention_mask.long().cumsum(-1) - 1).clamp_min(0)


def pad_left(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Stack rows of token ids [N, longest], padded on the left."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*[value] * (longest - len(row)), *row] for row in rows])


def pad_right(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Stack rows of token ids [N, longest], padded on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def set_threads(count: int) -> None:
    """Bound the threads of this process's torch."""
    torch.set_num_threads(count)


def give_memory_back() -> None:
    """Return freed memory to the system: later worker processes need it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if os.name == "posix" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)

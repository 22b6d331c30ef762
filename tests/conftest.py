"""Tiny random models, a tokenizer and cheap encoders: offline, built in about a second."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.records import Passage, Wording, read_records

torch.set_num_threads(1)

HELPDESK = Path(__file__).parents[1] / "examples" / "helpdesk"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@cache
def train_tokenizer():
    """A byte-level BPE of 500 tokens, trained on the texts of examples/helpdesk."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = [
        value
        for name in ("qa", "passages")
        for line in (HELPDESK / f"{name}.jsonl").read_text("utf-8").splitlines()
        for field, value in json.loads(line).items()
        if field in {"query", "answer", "text", "title"}
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer.to_str()


def make_tokenizer(chat_template=CHATML, **options):
    """A fresh tokenizer object: eos is token 0, the end of a chat turn another token."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    options = {"eos_token": "<|endoftext|>", "additional_special_tokens": SPECIAL[1:]} | options
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(train_tokenizer()), **options
    )
    tokenizer.chat_template = chat_template
    return tokenizer


LLAMA_LIKE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "head_dim": 8,
}
GPT2_LIKE = {
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 1024,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "resid_pdrop": 0.0,
}


def tiny_config(family, **overrides):
    """The config of a tiny model of a family."""
    import transformers as hf

    kind, shape = {
        "llama": (hf.LlamaConfig, LLAMA_LIKE),
        "qwen2": (hf.Qwen2Config, {k: v for k, v in LLAMA_LIKE.items() if k != "head_dim"}),
        "qwen3": (hf.Qwen3Config, LLAMA_LIKE),
        "mistral": (hf.MistralConfig, LLAMA_LIKE | {"sliding_window": 8}),
        "phi": (hf.PhiConfig, {k: v for k, v in LLAMA_LIKE.items() if k != "head_dim"}),
        "gemma3": (hf.Gemma3TextConfig, LLAMA_LIKE | {"sliding_window": 8}),
        "gpt2": (hf.GPT2Config, GPT2_LIKE),
    }[family]
    ids = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
    common = {"vocab_size": 500, "tie_word_embeddings": True, "initializer_range": 0.15}
    return kind(**(shape | ids | common | overrides))


def tiny_model(family, *, seed=0, **overrides):
    """A tiny random model, fp32, the same for the same seed."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **overrides))
        with torch.no_grad():  # norms and biases that are not exactly 1 and 0
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """make_model(family, chat=True, seed=0, **config overrides) -> a model folder."""

    @cache
    def make(family, chat=True, seed=0, **overrides):
        folder = tmp_path_factory.mktemp(f"{family}-{seed}")
        tiny_model(family, seed=seed, **overrides).save_pretrained(folder)
        make_tokenizer(CHATML if chat else None).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_llama(make_model):
    return make_model("llama")


@pytest.fixture(scope="session")
def encoder_folder():
    from accord.models.locate import locate

    return locate("package:all-minilm-l6-v2", "encoder")


class FakeEncoder:
    """Hashed character trigrams, L2-normalised: deterministic, cheap, similar for similar texts."""

    def __init__(self, folder=Path("fake-encoder"), width=48):
        self.folder, self.width = folder, width

    def encode(self, texts):
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in enumerate(texts):
            padded = f"  {text.lower()}  "
            for i in range(len(padded) - 2):
                digest = hashlib.md5(padded[i : i + 3].encode()).digest()
                vectors[row, digest[0] % self.width] += 1 if digest[1] % 2 else -1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def fake_encoder():
    return FakeEncoder()


@pytest.fixture(scope="session")
def helpdesk_passages():
    return read_records(HELPDESK / "passages.jsonl", Passage)


def make_wordings(count, split="train", types=("how_to_do", "i_we", "semantic")):
    """`count` questions with short answers, each with one wording of every type."""
    asked = []
    for n in range(count):
        topic = f"{('close', 'open', 'export', 'share', 'move')[n % 5]} account {n}"
        shared = {"original_id": f"q{n}", "split": split, "answer": f"Open menu {n}, then save."}
        queries = {None: f"How do I {topic}?"} | {t: f"{t} way to {topic}" for t in types}
        for kind, query in queries.items():
            name = f"q{n}" if kind is None else f"q{n}-{kind}"
            asked.append(Wording(id=name, type=kind, query=query, **shared))
    return asked

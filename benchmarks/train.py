"""Training: what the triplet costs, against TRL's SFTTrainer, memory, neighbours.

    python benchmarks/train.py triplet [--dtype bfloat16] [--steps 3] [--rounds 3]
    python benchmarks/train.py trl [--dtype float32]       # needs pip install trl
    python benchmarks/train.py memory                      # 262,144 tokens of vocabulary, 8 x 512
    python benchmarks/train.py neighbours [--queries 100000]

`triplet` and `trl` train SmolLM2-135M-Instruct on sequences of 300 tokens of the help-centre
example, the last 60 of them the answer, in batches of 16 (4 at once); triplets read its questions.
The two sides take turns, each from the same weights; a first step of each turn is not counted.
Seconds are CPU seconds of the process, and wall clock beside them; the ratio is the median over
turns.

`memory` takes a training step of each side in a process of its own and prints the peak of its
memory above what it held before. The naive way is transformers' own loss over all positions.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
HELPDESK = Path(__file__).parents[1] / "examples" / "helpdesk"
LENGTH, ANSWER, BATCH, MICRO, PAD = 300, 60, 16, 4, 2


def examples(count: int, seed: int, model: str) -> Any:
    """Examples of exactly LENGTH tokens with real queries, and neighbours by the encoder."""
    from accord.models.base import load_tokenizer
    from accord.models.encoder import Encoder
    from accord.models.locate import locate
    from accord.records import Passage, Question, read_records
    from accord.train.examples import Example, Examples
    from accord.train.neighbours import find_neighbours

    tokenizer = load_tokenizer(locate(model, "--model"))
    texts = [p.text for p in read_records(HELPDESK / "passages.jsonl", Passage)]
    questions = read_records(HELPDESK / "qa.jsonl", Question)
    draw = random.Random(seed)
    rows = []
    for n in range(count):
        text = " ".join(draw.sample(texts, 12))
        ids = tokenizer(text)["input_ids"][:LENGTH]
        assert len(ids) == LENGTH
        query = tokenizer(questions[n % len(questions)].query)["input_ids"]
        rows.append(
            Example(
                f"e{n}",
                tuple(ids[:-ANSWER]),
                tuple(ids[-ANSWER:]),
                tuple(query),
                False,
                questions[n % len(questions)].id,
            )
        )
    asked = [questions[n % len(questions)].query for n in range(count)]
    vectors = Encoder(locate("package:all-minilm-l6-v2", "encoder")).encode(asked)
    near = find_neighbours(vectors, asked, [r.original for r in rows], row_name="benchmark")
    return (
        Examples(rows, needs="triplets", neighbours=near, seed=seed),
        Examples(rows, seed=seed),
    )


def clock(callback: Any) -> Any:
    """A callback that notes wall and CPU seconds at the end of every step."""

    class Clock(callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.at: list[tuple[float, float]] = []

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.at.append((time.perf_counter(), time.process_time()))

        def seconds(self) -> tuple[float, float]:
            """(wall, CPU) of all steps but the first."""
            (w0, c0), (w1, c1) = self.at[0], self.at[-1]
            return w1 - w0, c1 - c0

    return Clock()


class Side:
    """One way to train; `run` trains from the start and gives (wall, CPU) seconds and losses."""

    def __init__(self, kind: str, data: Any, dtype: str, model: str, steps: int) -> None:
        self.kind, self.data, self.dtype, self.model, self.steps = kind, data, dtype, model, steps

    def run(self) -> tuple[float, float, list[float]]:
        """Train `steps` steps and one to warm up."""
        from transformers import PrinterCallback, TrainerCallback

        from accord.models.base import give_memory_back

        with tempfile.TemporaryDirectory() as folder:
            timer = clock(TrainerCallback)
            trainer, losses = (self._trl if self.kind == "trl" else self._ours)(folder)
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(timer)
            trainer.train()
            said = losses()
        del trainer
        give_memory_back()
        return (*timer.seconds(), said)

    def _arguments(self, folder: str, kind: Any, **more: Any) -> Any:
        return kind(
            output_dir=folder,
            per_device_train_batch_size=MICRO,
            gradient_accumulation_steps=BATCH // MICRO,
            max_steps=self.steps + 1,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            bf16=self.dtype == "bfloat16",
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            optim="adamw_torch_fused",
            dataloader_pin_memory=False,
            **more,
        )

    def _ours(self, folder: str) -> Any:
        from transformers import TrainerCallback, TrainingArguments

        from accord.models.base import load_model
        from accord.models.locate import locate
        from accord.train.trainer import ConsistencyTrainer

        trainer = ConsistencyTrainer(
            model=load_model(locate(self.model, "--model")),
            train_dataset=self.data,
            loss=self.kind,
            options={},
            pad=PAD,
            batch_size=BATCH,
            args=self._arguments(
                folder, TrainingArguments, remove_unused_columns=False, logging_strategy="no"
            ),
        )
        said: list[float] = []

        class Note(TrainerCallback):  # type: ignore[misc]
            def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
                said.append(trainer.parts["ce"])

        trainer.add_callback(Note())
        return trainer, lambda: said

    def _trl(self, folder: str) -> Any:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        from accord.models.base import load_model, load_tokenizer
        from accord.models.locate import locate
        from accord.train.batches import Sizes, plan_epoch

        lengths = [LENGTH] * len(self.data)
        plan = plan_epoch(lengths, lengths, Sizes(BATCH, MICRO), seed=self.data.seed, epoch=0)
        rows = [self.data.examples[row] for micro in plan for row in micro.rows]
        found = Dataset.from_dict(
            {
                "input_ids": [[*e.prompt, *e.answer] for e in rows],
                "labels": [[-100] * len(e.prompt) + [*e.answer] for e in rows],
            }
        )
        trainer = SFTTrainer(
            model=load_model(locate(self.model, "--model")),
            processing_class=load_tokenizer(locate(self.model, "--model")),
            train_dataset=found,
            args=self._arguments(
                folder,
                SFTConfig,
                logging_steps=1,
                completion_only_loss=True,
                max_length=None,
                gradient_checkpointing=False,
                train_sampling_strategy="sequential",
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
        )
        return trainer, lambda: [e["loss"] for e in trainer.state.log_history if "loss" in e]


def take_turns(one: Side, other: Side, rounds: int) -> tuple[list[Any], list[Any]]:
    """Both sides in turn."""
    turns: tuple[list[Any], list[Any]] = ([], [])
    for _ in range(rounds):
        for side, done in zip((one, other), turns, strict=True):
            done.append(side.run())
            wall, cpu, _ = done[-1]
            tokens = side.steps * BATCH * LENGTH
            print(
                f"  {side.kind:<8}{wall / side.steps:7.2f} s wall, {cpu / side.steps:7.2f} s CPU a "
                f"step; {tokens / wall:.0f} tokens/s, {tokens / cpu:.0f} a CPU second",
                flush=True,
            )
    return turns


def ratio(above: Sequence[Any], below: Sequence[Any], at: int) -> str:
    """The median over turns of above / below, and its range."""
    found = [a[at] / b[at] for a, b in zip(above, below, strict=True)]
    return f"{statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"


def triplet(given: argparse.Namespace) -> None:
    """Cross-entropy + triplet against cross-entropy alone."""
    count = BATCH * (given.steps + 1)
    with_triplets, alone = examples(count, given.seed, given.model)
    read = []
    for row in range(count):
        drawn = (row, *with_triplets.draw(row))
        read.append(sum(len(with_triplets.examples[i].query) for i in drawn))
    share = sum(read) / (count * LENGTH)
    print(f"{count} sequences of {LENGTH} tokens, triplets of {statistics.mean(read):.1f} tokens")
    sides = [
        Side(kind, data, given.dtype, given.model, given.steps)
        for kind, data in (("triplet", with_triplets), ("ce", alone))
    ]
    first, second = take_turns(sides[0], sides[1], given.rounds)
    print(f"share of extra tokens: {share:.4f}; allowed: 1 + 1.15 x share = {1 + 1.15 * share:.4f}")
    for name, at in (("CPU", 1), ("wall", 0)):
        print(f"time with the triplet over time without, by {name}: {ratio(first, second, at)}")


def trl(given: argparse.Namespace) -> None:
    """Against TRL."""
    _, data = examples(BATCH * (given.steps + 1), given.seed, given.model)
    ours, theirs = take_turns(
        Side("ce", data, given.dtype, given.model, given.steps),
        Side("trl", data, given.dtype, given.model, given.steps),
        given.rounds,
    )
    for name, at in (("CPU", 1), ("wall", 0)):
        print(f"tokens/s, ours over TRL's, by {name}: {ratio(theirs, ours, at)}")
    apart = max(abs(a - b) for a, b in zip(ours[0][2], theirs[0][2], strict=True))
    print(f"losses of the steps: {[round(v, 5) for v in ours[0][2]]}, TRL's "
          f"{[round(v, 5) for v in theirs[0][2]]}: {apart:.1e} apart at most")  # fmt: skip


def memory(given: argparse.Namespace) -> None:
    """Peak memory of a step at Gemma's vocabulary."""
    found = {}
    for side in ("ours", "naive"):
        command = [sys.executable, __file__, "memory", "--side", side]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{side}: ended with {done.returncode}\n{done.stderr[-2000:]}")
            return
        found[side] = json.loads(done.stdout)
        print(f"{side}: {found[side]}")
    for what in ("step", "process"):
        print(f"{what}: {found['naive'][what] / found['ours'][what]:.2f} times less")


def memory_of(side: str) -> None:
    """One step of AdamW on a Gemma 3 of Gemma 3 270M's vocabulary, and the peak of it (GB)."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    from accord.models.losses import answer_cross_entropy
    from accord.models.reading import answer_logits, head_of

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=256,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rows = torch.randint(3, 262_144, (8, 512))
    for parameter in model.parameters():  # the moments of AdamW, which every step holds
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    before = resident()
    reset_peak()
    if side == "ours":
        ids = rows.tolist()
        target = rows[:, -ANSWER:].reshape(-1)
        loss = answer_cross_entropy(  # nobody holds the logits, as in the trainer
            answer_logits(model, head_of(model, "m"), ids, [ANSWER] * 8, pad=0),
            target,
            overwrite=True,
        ) / (8 * ANSWER)
    else:
        labels = rows.clone()
        labels[:, :-ANSWER] = -100
        loss = model(input_ids=rows, labels=labels, use_cache=False).loss
    loss.backward()
    optimizer.step()
    peak = resident("VmHWM")
    print(json.dumps({"loss": float(loss), "step": peak - before, "process": peak}))


def resident(field: str = "VmRSS") -> float:
    """Resident memory of this process in GB, or its peak."""
    text = Path("/proc/self/status").read_text()
    return next(int(x.split()[1]) for x in text.splitlines() if x.startswith(field)) / 1e6


def reset_peak() -> None:
    """The peak counts from here."""
    Path("/proc/self/clear_refs").write_text("5")


def neighbours(given: argparse.Namespace) -> None:
    """Nearest and farthest of many queries."""
    import numpy as np

    from accord.train.neighbours import find_neighbours

    rng = np.random.default_rng(given.seed)
    count = given.queries
    vectors = rng.standard_normal((count, 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = [f"query {n}" for n in range(count)]
    originals = [f"q{n // 4}" for n in range(count)]
    wall, cpu = time.perf_counter(), time.process_time()
    found = find_neighbours(vectors, asked, originals, row_name="benchmark")
    print(
        f"{count} queries of 384 numbers: {time.perf_counter() - wall:.0f} s wall, "
        f"{time.process_time() - cpu:.0f} s CPU, peak {resident('VmHWM'):.2f} GB"
    )
    for row in rng.choice(count, 200, replace=False):
        similar = vectors @ vectors[row]
        similar[row] = -np.inf
        wanted = np.sort(similar)[-10:]
        assert np.allclose(np.sort(similar[found.nearest[row]]), wanted, atol=1e-6)
    print("200 of them checked against brute force")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("triplet", "trl", "memory", "neighbours"))
    parser.add_argument("--model", default="package:smollm2-135m-instruct")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; all cores if not given")
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=("ours", "naive"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    if given.side:
        memory_of(given.side)
        return
    {"triplet": triplet, "trl": trl, "memory": memory, "neighbours": neighbours}[given.what](given)


if __name__ == "__main__":
    main()

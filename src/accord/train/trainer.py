"""The HF Trainer with the paper's loss.

Unusual: logits are formed for the answer's positions only (rows are left-padded, so these are the
last ones of every row), and both losses are normalised over the whole global batch: cross-entropy
by its answer tokens, the triplet by its examples. Accumulation therefore does not change the loss.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from accord.errors import RunError
from accord.models.base import CausalLM, device, give_memory_back, positions
from accord.models.losses import answer_cross_entropy, mean_pool, triplet
from accord.progress import Progress
from accord.train.examples import Examples, collate

TRIM_EVERY = 4  # steps


class ConsistencyTrainer(Trainer):  # type: ignore[misc]
    """L = L_CE + alpha * L_triplet (paper, section 3.2, equation 1)."""

    def __init__(self, *, alpha: float, margin: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha, self.margin = alpha, margin
        # compute_loss divides by the global batch itself, so the Trainer must not divide again,
        # and must count the answer tokens even for models that take no such argument.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        self.parts = {"ce": 0.0, "triplet": 0.0}
        self._examples = 1

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Also count the examples of the global batch, by which the triplet is normalised."""
        batches, tokens = super().get_batch_samples(*args, **kwargs)
        self._examples = sum(len(b["labels"]) for b in batches) * self.args.world_size
        self.parts = {"ce": 0.0, "triplet": 0.0}
        return batches, tokens

    def compute_loss(
        self,
        model: CausalLM,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This micro-batch's share of the loss of the global batch."""
        # One autocast around both passes: each weight is then cast to bf16 once, not twice.
        with self.accelerator.autocast():
            return self._loss(model, inputs, return_outputs, num_items_in_batch)

    def _loss(
        self,
        model: CausalLM,
        inputs: dict[str, Tensor],
        return_outputs: bool,
        num_items_in_batch: Tensor | int | None,
    ) -> Any:
        mask = inputs["attention_mask"]
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=mask,
            position_ids=positions(mask),
            logits_to_keep=int(inputs["keep"]),
            use_cache=False,
        )
        tokens = num_items_in_batch if num_items_in_batch is not None else 1
        # Under data parallelism gradients are averaged over processes; undo it for a sum.
        world = self.args.world_size
        ce = answer_cross_entropy(outputs.logits, inputs["labels"]) / tokens * world
        self.parts["ce"] += float(ce.detach()) / world
        loss = ce
        if "triplet_ids" in inputs:
            distance = self._triplet(model, inputs) / self._examples * world
            self.parts["triplet"] += float(distance.detach()) / world
            loss = loss + self.alpha * distance
        return (loss, outputs) if return_outputs else loss

    def _triplet(self, model: CausalLM, inputs: dict[str, Tensor]) -> Tensor:
        """All three branches in one forward pass of bare queries; all carry gradient."""
        mask = inputs["triplet_mask"]
        outputs = model(
            input_ids=inputs["triplet_ids"],
            attention_mask=mask,
            position_ids=positions(mask),
            output_hidden_states=True,
            logits_to_keep=1,
            use_cache=False,
        )
        # The last entry is the hidden state after the final norm.
        anchor, positive, negative = mean_pool(outputs.hidden_states[-1], mask).chunk(3)
        return triplet(anchor, positive, negative, self.margin)


class _Log(TrainerCallback):  # type: ignore[misc]
    """Per step: the parts of the loss into a JSONL file, progress to whoever watches."""

    def __init__(self, path: Path, data: Examples, progress: Progress, note: str) -> None:
        self.path, self.data, self.progress, self.note = path, data, progress, note
        self.parts: Callable[[], dict[str, float]] = dict
        self.left = len(data)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.data.epoch = round(state.epoch or 0)
        self.left = len(self.data)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
        done = min(self.left, batch * args.world_size)
        self.left -= done
        if device() == "cpu" and state.global_step % TRIM_EVERY == 0:
            # Batches of changing length fragment the heap: it would be 1 GB larger in the end.
            # Not after every step, since the pages have to be cleared again when they come back.
            give_memory_back()
        self.progress.advance(done, self.note)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        entry = {"step": state.global_step + 1, "epoch": self.data.epoch, **self.parts()}
        if not all(math.isfinite(value) for value in entry.values()):
            raise RunError(
                f"train: {self.note}: the loss is not finite at step {entry['step']}; "
                "lower train.learning_rate or use train.precision=fp32"
            )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def fit(
    model: CausalLM,
    data: Examples,
    *,
    pad: int,
    folder: Path,
    alpha: float,
    margin: float,
    epochs: int,
    learning_rate: float,
    warmup: float,
    weight_decay: float,
    batch_size: int,
    micro_batch_size: int,
    precision: str,
    gradient_checkpointing: bool,
    seed: int,
    progress: Progress,
    note: str,
) -> None:
    """Fine-tune `model` in place; the log of the steps goes to `folder`/log.jsonl.

    Raises RunError if a loss is not finite.
    """
    if gradient_checkpointing:
        model.gradient_checkpointing_enable()
    set_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # That would also fill every new tensor, at an eighth of the time, to show reads of memory that
    # nobody wrote; it does not make results more repeatable.
    torch.utils.deterministic.fill_uninitialized_memory = False
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=math.ceil(batch_size / micro_batch_size),
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        # Whole steps, rounded down: the first step of a warm-up has rate 0 and would be wasted.
        warmup_steps=int(warmup * epochs * math.ceil(len(data) / batch_size)),
        weight_decay=weight_decay,
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
        use_cpu=device() == "cpu",
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    if arguments.n_gpu > 1:  # several GPUs are for several specialists, not for nn.DataParallel
        arguments._n_gpu = 1
    log = _Log(folder / "log.jsonl", data, progress, note)
    trainer = ConsistencyTrainer(
        alpha=alpha,
        margin=margin,
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=partial(collate, pad=pad),
        callbacks=[log],
    )
    trainer.remove_callback(PrinterCallback)
    log.parts = lambda: trainer.parts
    trainer.train()

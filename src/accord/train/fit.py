"""One fine-tuning: arguments, log, checkpoints, early stopping, and what may go wrong."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed

from accord.errors import RunError
from accord.models.base import CausalLM, device, give_memory_back
from accord.progress import Progress
from accord.records import write_text
from accord.train import checkpoints
from accord.train.arguments import Recipe, training_arguments
from accord.train.examples import Examples
from accord.train.trainer import ConsistencyTrainer

TRIM_EVERY = 4  # steps
SHOWN = 32  # ids in an error


class _Log(TrainerCallback):  # type: ignore[misc]
    """Per step: the terms of the loss into a JSONL file, progress to whoever watches."""

    def __init__(self, path: Path, progress: Progress, note: str, last: bool) -> None:
        self.path, self.progress, self.note, self.last = path, progress, note, last
        self.trainer: Any = None
        self.done = 0  # examples
        self.began = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            _cut(self.path, state.global_step)
        self._advance(state.global_step)
        self.began = time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        plan, data = self.trainer.plan, self.trainer.train_dataset
        # Not from state.epoch: resumed in the middle of an epoch it is a fraction.
        plan.epoch = data.epoch = state.global_step // math.ceil(len(data) / plan.sizes.batch)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        terms = self.trainer.summed()
        tokens = terms.pop("tokens")
        values = {**terms, "grad_norm": self.trainer.grad_norm}
        step = state.global_step + 1
        if not all(map(math.isfinite, values.values())):
            self._stop(step, values)
        now = time.monotonic()
        entry = {
            "step": step,
            "epoch": self.trainer.plan.epoch,
            "loss": sum(terms.values()),
            **values,
            "learning_rate": self.trainer._get_learning_rate(),
            "tokens": int(tokens),
            "tokens_per_second": round(tokens / max(now - self.began, 1e-9), 1),
        }
        self.began = now
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        if args.report_to:
            self.trainer.log(
                {name: v for name, v in entry.items() if name not in {"step", "epoch"}}
            )

    def _stop(self, step: int, values: Mapping[str, float]) -> None:
        """Raise RunError naming the step, the examples of the batch and the last checkpoint."""
        names = self.trainer.names
        if self.trainer.args.world_size > 1:
            from accelerate.utils import gather_object

            names = gather_object(names)
        what = "loss" if math.isnan(sum(values.values()) - values["grad_norm"]) else "gradient"
        if any(math.isinf(v) for name, v in values.items() if name != "grad_norm"):
            what = "loss"
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        shown = ", ".join(names[:SHOWN]) + more
        kept, _ = checkpoints.newest(Path(self.trainer.args.output_dir))
        after = f"the checkpoint of step {checkpoints.step_of(kept)} is kept; " if kept else ""
        raise RunError(
            f"train: {self.note}: the {what} is not finite at step {step} (examples {shown}); "
            f"{after}lower train.learning_rate or use train.precision=fp32"
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if device() == "cpu" and state.global_step % TRIM_EVERY == 0:
            # Batches of changing length fragment the heap: it would be 1 GB larger in the end.
            # Not after every step, since the pages have to be cleared again when they come back.
            give_memory_back()
        self._advance(state.global_step)
        return self._no_last(state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        return self._no_last(state, control)

    def _no_last(self, state: Any, control: Any) -> Any:
        """No checkpoint of the last step: the model itself is written then."""
        if state.global_step >= state.max_steps and not self.last:
            control.should_save = False
        return control

    def _advance(self, steps: int) -> None:
        """Tell of all examples of the first `steps` steps that were not told of."""
        count, size = len(self.trainer.train_dataset), self.trainer.plan.sizes.batch
        whole, rest = divmod(steps, math.ceil(count / size))
        done = whole * count + min(count, rest * size)
        if done > self.done:
            self.progress.advance(done - self.done, self.note)
            self.done = done


def _cut(log: Path, step: int) -> None:
    """Drop what a log tells of steps after `step`: they are done again."""
    lines = log.read_text("utf-8").splitlines() if log.is_file() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    write_text(log, "".join(line + "\n" for line in kept))


def fit(
    model: CausalLM,
    data: Examples,
    recipe: Recipe,
    *,
    pad: int,
    folder: Path,
    select: Examples | None = None,
    progress: Progress,
) -> tuple[ConsistencyTrainer, list[str]]:
    """Fine-tune `model` in place; go on from the newest complete checkpoint in `folder`.

    Args:
        model: the base, with adapters if it is LoRA.
        data: the row's examples.
        recipe: loss, settings, seed.
        pad: a token to pad with.
        folder: gets log.jsonl and checkpoints/.
        select: examples of dev-select, for early stopping.
        progress: is advanced by examples.

    Returns:
        The trainer, which can save the model however it is spread, and notes for the user.

    Raises RunError if a loss is not finite or memory runs out.
    """
    settings, saved = recipe.settings, folder / "checkpoints"
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if settings.lora is not None:
            model.enable_input_require_grads()
    set_seed(recipe.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # That would also fill every new tensor, at an eighth of the time, to show reads of memory that
    # nobody wrote; it does not make results more repeatable.
    torch.utils.deterministic.fill_uninitialized_memory = False
    stopping = settings.early_stopping
    log = _Log(folder / "log.jsonl", progress, recipe.name, last=stopping is not None)
    callbacks = [EarlyStoppingCallback(stopping), log] if stopping is not None else [log]
    trainer = ConsistencyTrainer(
        model=model,
        train_dataset=data,
        eval_dataset=select,
        loss=recipe.loss,
        options=recipe.options,
        pad=pad,
        batch_size=settings.batch_size,
        name=recipe.name,
        args=training_arguments(recipe, saved, len(data)),
        callbacks=callbacks,
    )
    log.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    found, skipped = checkpoints.newest(saved)
    try:
        trainer.train(resume_from_checkpoint=str(found) if found else None)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        lack = _out_of_memory(error, recipe, trainer)
        if lack is None:
            raise
        raise lack from error
    if stopping is not None:
        trainer.load_best()
    return trainer, [f"train: {recipe.name}: {sentence}" for sentence in skipped]


def _out_of_memory(
    error: Exception, recipe: Recipe, trainer: ConsistencyTrainer
) -> RunError | None:
    """What to do about it, if the error is for want of memory."""
    text = str(error).lower()
    lack = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if not lack and "can't allocate memory" not in text and "not enough memory" not in text:
        return None
    settings = recipe.settings
    ways = []
    if settings.micro_batch_size > 1:
        ways.append(f"train.micro_batch_size below {settings.micro_batch_size}")
    if not settings.gradient_checkpointing:
        ways.append("train.gradient_checkpointing=true")
    if settings.lora is None:
        ways.append("train.lora={}")
    ways.append("a smaller prompt.max_tokens")
    return RunError(
        f"train: {recipe.name}: out of memory at step {trainer.state.global_step + 1} with "
        f"{settings.micro_batch_size} examples at once; set {' or '.join(ways)} and run again"
    )

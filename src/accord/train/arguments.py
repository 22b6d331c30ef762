"""A row's recipe, and what of it the HF Trainer is told."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from accord import config
from accord.errors import InputError
from accord.models.base import device
from accord.registry import suggest


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one row is fine-tuned: the section `train`, its loss, its seed and its steps.

    `steps`: optimizer steps, None for `settings.epochs`.
    """

    name: str
    settings: config.Train
    loss: str
    options: Mapping[str, Any]
    seed: int
    steps: int | None = None


def training_arguments(recipe: Recipe, saved: Path, count: int) -> TrainingArguments:
    """What transformers is told; the rest of it is the user's `train.arguments`."""
    settings = recipe.settings
    check_arguments(settings.arguments, settings.report_to)
    steps = recipe.steps or settings.epochs * math.ceil(count / settings.batch_size)
    every = "epoch" if settings.checkpoint_steps is None else "steps"
    stopping = settings.early_stopping is not None
    try:
        arguments = TrainingArguments(
            **owned(settings),
            output_dir=str(saved),
            num_train_epochs=settings.epochs,
            max_steps=recipe.steps or -1,
            # Whole steps, rounded down: the first step of a warm-up has rate 0 and would be wasted.
            warmup_steps=int(settings.warmup * steps),
            seed=recipe.seed % 2**32,
            use_cpu=device() == "cpu",
            save_strategy=every,
            save_steps=settings.checkpoint_steps or 500,
            eval_strategy=every if stopping else "no",
            eval_steps=settings.checkpoint_steps,
            metric_for_best_model="eval_loss" if stopping else None,
            greater_is_better=False if stopping else None,
            report_to=list(settings.report_to) or "none",
            run_name=recipe.name,
            **settings.arguments,
        )
    except (ValueError, RuntimeError, ImportError) as error:
        raise InputError(f"train.arguments: {str(error).splitlines()[0]}") from None
    if arguments.n_gpu > 1:  # several GPUs are for several specialists, not for nn.DataParallel
        arguments._n_gpu = 1
    accumulated = settings.batch_size / (settings.micro_batch_size * arguments.world_size)
    if accumulated != int(accumulated):
        raise InputError(
            f"train.batch_size: {settings.batch_size} is no multiple of micro_batch_size "
            f"{settings.micro_batch_size} in {arguments.world_size} processes"
        )
    arguments.gradient_accumulation_steps = int(accumulated)
    return arguments


def owned(settings: config.Train) -> dict[str, Any]:
    """The arguments of transformers that this project's own settings decide."""
    schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    return {
        "per_device_train_batch_size": settings.micro_batch_size,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": schedule,
        "weight_decay": settings.weight_decay,
        "bf16": settings.precision == "bf16",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "restore_callback_states_from_checkpoint": settings.early_stopping is not None,
        **({} if "optim" in settings.arguments else {"optim": "adamw_torch_fused"}),
    }


_OURS = {
    "output_dir", "num_train_epochs", "max_steps", "warmup_steps", "seed", "data_seed", "use_cpu",
    "save_strategy", "save_steps", "eval_strategy", "eval_steps", "metric_for_best_model",
    "greater_is_better", "report_to", "run_name", "gradient_accumulation_steps",
    "load_best_model_at_end", "per_device_eval_batch_size", "save_total_limit", "push_to_hub",
}  # fmt: skip


def check_arguments(arguments: Mapping[str, Any], report_to: tuple[str, ...]) -> None:
    """Raise InputError for an argument transformers does not know, or that is decided elsewhere."""
    known = {f.name for f in dataclasses.fields(TrainingArguments)}
    for name in arguments:
        if name in _OURS | (owned(config.Train()).keys() - {"optim"}):
            raise InputError(f"train.arguments.{name}: is decided by the other settings of `train`")
        if name not in known:
            raise InputError(
                f"train.arguments.{name}: transformers has no such argument; {suggest(name, known)}"
            )
    from transformers.integrations import get_available_reporting_integrations

    there = get_available_reporting_integrations()
    for tracker in report_to:
        if tracker not in there:
            raise InputError(
                f"train.report_to: `{tracker}` is not installed, or transformers does not know it; "
                f"there is {', '.join(sorted(there)) or 'none'}"
            )

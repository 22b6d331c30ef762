"""What would fail in training, found before it: options, packages, targets of LoRA."""

import importlib.util
from pathlib import Path

from accord import config
from accord.errors import InputError
from accord.train.losses import needs
from accord.train.plan import plan_rows


def preflight(settings: config.Train, base: Path | None) -> None:
    """Raise InputError for what training would refuse; `base`: the model's folder, where it is."""
    needs(settings.loss)
    if settings.arguments or settings.report_to:
        from accord.train.arguments import check_arguments

        check_arguments(settings.arguments, settings.report_to)
    if settings.lora is not None:
        if importlib.util.find_spec("peft") is None:
            raise InputError('train.lora: LoRA needs peft: pip install "accord[models]"')
        if base is not None:
            from accord.models.adapters import check_targets

            check_targets(base, settings.lora)


def models_written(settings: config.Train) -> int:
    """How many models are on disk at most, the seeds of a soup among them."""
    return len(plan_rows(settings)) + (settings.controls.soup or 1) - 1

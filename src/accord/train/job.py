"""One row of the table trained into a folder: in this process, or in every process of a launch."""

import gc
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from accord.models.adapters import folded, with_adapters
from accord.models.base import give_memory_back, load_model, load_tokenizer, save_model
from accord.progress import SILENT, Progress
from accord.records import write_json
from accord.train import launch
from accord.train.arguments import Recipe
from accord.train.examples import Example, Examples
from accord.train.fit import fit
from accord.train.losses import needs
from accord.train.neighbours import Neighbours
from accord.train.trainer import ConsistencyTrainer
from accord.train.workers import DONE


@dataclass(frozen=True)
class Job:
    """Everything one row is trained from. `key` names all that its weights depend on."""

    recipe: Recipe
    base: Path
    target: Path
    key: str
    examples: tuple[Example, ...]
    neighbours: Neighbours | None
    select: tuple[Example, ...] = ()

    @property
    def aside(self) -> Path:
        """Where the work is until it is complete."""
        return self.target.with_name(f".{self.target.name}.partial")


def prepare(job: Job) -> list[str]:
    """The folder aside, with the checkpoints of a killed run if they are of this job."""
    mark = job.aside / "key.json"
    try:
        known = json.loads(mark.read_text("utf-8"))["key"]
    except (OSError, ValueError, KeyError):
        known = None
    notes = []
    if known != job.key:
        if known is not None and any((job.aside / "checkpoints").glob("checkpoint-*")):
            notes.append(
                f"train: {job.recipe.name}: the checkpoints of a run with another config or other "
                "data were dropped, and it was trained anew"
            )
        shutil.rmtree(job.aside, ignore_errors=True)
        job.aside.mkdir(parents=True)
        write_json(mark, {"key": job.key})
    return notes


def work(job: Job, progress: Progress = SILENT) -> list[str]:
    """Train, in every process of a launch alike; the main one leaves the model in `job.aside`."""
    tokenizer = load_tokenizer(job.base)
    settings = job.recipe.settings
    # Frozen weights need no fp32.
    half = settings.lora is not None and settings.precision == "bf16"
    # What is to be spread over GPUs may not fit one.
    where = "cpu" if launch.shards(settings.arguments) else None
    model = load_model(job.base, "bfloat16" if half else "float32", where)
    if settings.lora is not None:
        model = with_adapters(model, settings.lora)
    data = Examples(
        job.examples,
        needs=needs(job.recipe.loss),
        neighbours=job.neighbours,
        seed=job.recipe.seed,
    )
    trainer, notes = fit(
        model,
        data,
        job.recipe,
        pad=tokenizer.pad_token_id,
        folder=job.aside,
        select=Examples(job.select) if job.select else None,
        progress=progress,
    )
    _save(trainer, job)
    del model, trainer
    gc.collect()
    give_memory_back()
    launch.wait()
    return notes


def _save(trainer: ConsistencyTrainer, job: Job) -> None:
    """The whole model, gathered from all processes; of LoRA also the adapters."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    lora = job.recipe.settings.lora is not None
    place = job.aside / "adapter" if lora else job.aside
    trainer.save_model(str(place))  # all processes take part
    if not launch.is_main():
        return
    (place / "training_args.bin").unlink(missing_ok=True)  # a pickle
    if lora:
        save_model(folded(job.base, place), load_tokenizer(job.base), job.aside)
    else:
        load_tokenizer(job.base).save_pretrained(job.aside)


def finish(job: Job) -> None:
    """Move a trained row to its place."""
    write_json(job.aside / DONE, {"key": job.key, "examples": len(job.examples)})
    shutil.rmtree(job.aside / "checkpoints", ignore_errors=True)
    (job.aside / "key.json").unlink(missing_ok=True)
    shutil.rmtree(job.target, ignore_errors=True)
    job.aside.rename(job.target)

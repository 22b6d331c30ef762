"""Fine-tuning against TRL: the same losses, gradient norms and weights, step by step."""

import copy

import pytest
import torch
from conftest import make_tokenizer, tiny_model
from datasets import Dataset
from training import assert_same_weights, log_of, make_examples, run_fit
from trl import SFTConfig, SFTTrainer

from accord.train.batches import Sizes, plan_epoch

EPOCHS, BATCH = 2, 8


def planned(data, micro):
    """The examples in the order of the plan, epoch by epoch."""
    lengths = [len(e.prompt) + len(e.answer) for e in data.examples]
    return [
        data.examples[row]
        for epoch in range(EPOCHS)
        for one in plan_epoch(lengths, lengths, Sizes(BATCH, micro), seed=data.seed, epoch=epoch)
        for row in one.rows
    ]


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("micro", [8, 2])
def test_cross_entropy_training_is_that_of_trl(family, micro, tmp_path):
    """Answers of very different lengths: a mean over micro-batches is no mean over tokens."""
    model, data = tiny_model(family), make_examples(16, loss="ce")
    theirs = copy.deepcopy(model)
    rows = planned(data, micro)
    trainer = SFTTrainer(
        model=theirs,
        processing_class=make_tokenizer(pad_token="<|endoftext|>"),
        train_dataset=Dataset.from_dict(
            {
                "input_ids": [[*e.prompt, *e.answer] for e in rows],
                "labels": [[-100] * len(e.prompt) + [*e.answer] for e in rows],
            }
        ),
        args=SFTConfig(
            output_dir=str(tmp_path / "trl"),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=BATCH // micro,
            num_train_epochs=1,  # the rows hold all epochs
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            logging_steps=1,
            max_length=None,
            gradient_checkpointing=False,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    ours = run_fit(
        model, data, tmp_path / "ours", loss="ce", epochs=EPOCHS, schedule="constant",
        batch_size=BATCH, micro_batch_size=micro, learning_rate=1e-3,
    )  # fmt: skip
    told = [entry for entry in trainer.state.log_history if "loss" in entry]
    log = log_of(tmp_path / "ours")
    assert len(log) == len(told) == EPOCHS * 2
    for mine, other in zip(log, told, strict=True):
        assert mine["ce"] == pytest.approx(other["loss"], abs=2e-4)
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    assert_same_weights(ours, theirs.state_dict(), atol=1e-4)
    start = tiny_model(family).state_dict()
    assert max((t - start[n]).abs().max() for n, t in ours.items()) > 1e-3
    assert torch.isfinite(torch.tensor([entry["ce"] for entry in log])).all()

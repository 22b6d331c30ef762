import copy
import json
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_model
from transformers import TrainingArguments

from accord.errors import RunError
from accord.progress import Progress
from accord.train.examples import Example, Examples, collate
from accord.train.neighbours import Neighbours
from accord.train.trainer import ConsistencyTrainer, fit

ALPHA, MARGIN, PAD = 0.7, 0.5, 0
FAMILIES = ("llama", "gpt2", "gemma3")


def make_examples(count, *, triplet=True, seed=0):
    """Examples of very different lengths, with neighbours that are other rows."""
    g = torch.Generator().manual_seed(seed)

    def ids(low, high):
        length = int(torch.randint(low, high + 1, (1,), generator=g))
        return tuple(torch.randint(3, 500, (length,), generator=g).tolist())

    rows = [Example(f"q{i}", ids(3, 24), ids(1, 9), ids(2, 12), False) for i in range(count)]
    others = [[(i + k) % count for k in range(1, count)] for i in range(count)]
    near = Neighbours(
        tuple(tuple(o[:10]) for o in others), tuple(tuple(o[::-1][:10]) for o in others)
    )
    return Examples(rows, near if triplet else None, seed)


def plain_loss(model, items, alpha=ALPHA, margin=MARGIN):
    """The loss of one global batch, one row at a time: no padding, full logits, no Trainer."""
    ce = tokens = distances = 0
    for item in items:
        ids = torch.tensor([[*item["prompt"], *item["answer"]]])
        labels = ids.clone()
        labels[0, : len(item["prompt"])] = -100
        logits = model(input_ids=ids).logits
        ce = ce + F.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum")
        tokens += len(item["answer"])
        if "triplet" in item:
            a, p, n = (embed(model, query) for query in item["triplet"])
            distances = distances + F.relu((a - p).pow(2).sum() - (a - n).pow(2).sum() + margin)
    return ce / tokens + alpha * distances / len(items)


def embed(model, query):
    """f: mean of what goes into the head, L2-normalised."""
    seen = []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(input_ids=torch.tensor([query]))
    handle.remove()
    mean = seen[0][0].mean(0)
    return mean / mean.norm()


def right_padded_loss(model, items):
    """The cross-entropy again, in one right-padded batch with full logits."""
    rows = [[*i["prompt"], *i["answer"]] for i in items]
    longest = max(map(len, rows))
    ids = torch.tensor([r + [PAD] * (longest - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
    labels = torch.full_like(ids, -100)
    for row, item in enumerate(items):
        start = len(item["prompt"])
        labels[row, start : len(rows[row])] = torch.tensor(item["answer"])
    logits = model(input_ids=ids, attention_mask=mask).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def make_trainer(model, data, folder, *, micro=4, accumulate=1, **options):
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulate,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        save_strategy="no",
        **options,
    )
    return ConsistencyTrainer(
        alpha=ALPHA,
        margin=MARGIN,
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=partial(collate, pad=PAD),
    )


def run_fit(model, data, folder, **options):
    settings = {
        "pad": PAD,
        "alpha": ALPHA,
        "margin": MARGIN,
        "epochs": 1,
        "learning_rate": 1e-3,
        "warmup": 0.0,
        "weight_decay": 0.0,
        "batch_size": 8,
        "micro_batch_size": 8,
        "precision": "fp32",
        "gradient_checkpointing": False,
        "seed": 0,
        "progress": Progress(),
        "note": "SEM",
    }
    folder.mkdir(exist_ok=True)
    fit(model, data, folder=folder, **(settings | options))
    return model.state_dict()


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_weights(one, two, **tolerance):
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], **({"rtol": 0, "atol": 0} | tolerance))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("triplet", [True, False])
def test_loss_and_gradients_are_those_of_plain_torch(family, triplet, tmp_path):
    model, data = tiny_model(family), make_examples(6, triplet=triplet)
    items = [data[i] for i in range(6)]
    trainer = make_trainer(model, data, tmp_path, micro=6)
    batches, tokens = trainer.get_batch_samples(iter([collate(items, PAD)]), 1, "cpu")
    model.train()
    loss = trainer.compute_loss(model, batches[0], num_items_in_batch=tokens)
    loss.backward()
    got = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    wanted = plain_loss(model, items)
    wanted.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(
        torch.tensor(trainer.parts["ce"]), right_padded_loss(model, items).detach()
    )


def test_every_branch_of_the_triplet_carries_gradient(tmp_path):
    model = tiny_model("llama", tie_word_embeddings=False)
    ce_only = Example("q", (3,), (3,), (3,), False)
    branches = ((10, 11, 12), (20, 21), (30, 31, 32, 33))
    item = {"prompt": ce_only.prompt, "answer": ce_only.answer, "triplet": branches}
    trainer = make_trainer(model, make_examples(3), tmp_path)
    trainer.margin = 4.1  # never satisfied
    trainer._examples = 1
    trainer.compute_loss(model, collate([item], PAD), num_items_in_batch=1).backward()
    touched = model.get_input_embeddings().weight.grad.abs().sum(1)
    for branch in branches:
        assert (touched[list(branch)] > 0).all()
    assert touched[40] == 0


def test_a_model_that_takes_no_loss_arguments_is_normalised_all_the_same(tmp_path):
    """Some say `accepts_loss_kwargs = False`; the Trainer would then count no tokens."""
    model = tiny_model("llama")
    model.accepts_loss_kwargs = False
    data = make_examples(6)
    items = [data[i] for i in range(6)]
    trainer = make_trainer(model, data, tmp_path)
    _, tokens = trainer.get_batch_samples(iter([collate(items, PAD)]), 1, "cpu")
    assert tokens == sum(len(i["answer"]) for i in items)


def test_the_logits_are_formed_for_answers_only(tmp_path):
    model, data = tiny_model("llama"), make_examples(4)
    items = [data[i] for i in range(4)]
    trainer = make_trainer(model, data, tmp_path)
    _, outputs = trainer.compute_loss(model, collate(items, PAD), return_outputs=True)
    assert outputs.logits.shape[1] == max(len(i["answer"]) for i in items) + 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("micro", [8, 2])
def test_a_step_follows_the_gradient_of_the_plain_loss(family, micro, tmp_path):
    """Plain SGD without clipping shows the scale of the gradient, which Adam would hide."""
    model, data = tiny_model(family), make_examples(11)
    reference, seen = copy.deepcopy(model), record_draws(data)
    make_trainer(
        model,
        data,
        tmp_path,
        micro=micro,
        accumulate=8 // micro,
        optim="sgd",
        learning_rate=0.01,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        num_train_epochs=1,
    ).train()
    order = [row for row, _ in seen]
    for rows in (order[:8], order[8:]):
        reference.zero_grad()
        plain_loss(reference, [data[i] for i in rows]).backward()
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter -= 0.01 * parameter.grad
    assert_same_weights(reference.state_dict(), model.state_dict(), atol=1e-5)
    start = tiny_model(family).state_dict()
    assert max((t - start[n]).abs().max() for n, t in reference.state_dict().items()) > 1e-3


@pytest.mark.parametrize("count", [8, 11])
def test_accumulation_changes_nothing(count, tmp_path):
    """8 = 4 x 2; with 11 examples the last global batch has 3, in micro-batches of 2 and 1."""
    whole, parts = (
        run_fit(
            tiny_model("llama"),
            make_examples(count),
            tmp_path / folder,
            micro_batch_size=micro,
            learning_rate=1e-4,
        )
        for folder, micro in (("8", 8), ("4x2", 2))
    )
    assert_same_weights(whole, parts, atol=1e-5)
    for one, two in zip(log_of(tmp_path / "8"), log_of(tmp_path / "4x2"), strict=True):
        assert one == pytest.approx(two, abs=1e-5)


def test_the_last_incomplete_batch_is_a_mean_over_its_own_examples(tmp_path):
    """The log of a step that moves nothing is the plain loss of that batch."""
    model, data = tiny_model("llama"), make_examples(11)
    frozen = copy.deepcopy(model)
    seen = record_draws(data)
    run_fit(model, data, tmp_path, learning_rate=1e-12, micro_batch_size=2)
    log = log_of(tmp_path)
    assert [entry["step"] for entry in log] == [1, 2]
    order = [row for row, _ in seen]
    assert sorted(order) == list(range(11))
    for entry, rows in zip(log, (order[:8], order[8:]), strict=True):
        items = [data[i] for i in rows]
        wanted = plain_loss(frozen, items).item()
        assert entry["ce"] + ALPHA * entry["triplet"] == pytest.approx(wanted, abs=1e-4)


def record_draws(data):
    """(row, epoch) of every item that the Trainer asks for."""
    seen, inner = [], type(data).__getitem__

    class Recording(type(data)):
        def __getitem__(self, row):
            seen.append((row, self.epoch))
            return inner(self, row)

    data.__class__ = Recording
    return seen


def test_every_example_is_seen_once_an_epoch_with_draws_of_that_epoch(tmp_path):
    data = make_examples(11)
    seen = record_draws(data)
    run_fit(tiny_model("llama"), data, tmp_path, epochs=3, micro_batch_size=2)
    assert sorted(seen) == sorted((row, epoch) for epoch in range(3) for row in range(11))
    assert [e for _, e in seen] == [0] * 11 + [1] * 11 + [2] * 11
    drawn = []
    for epoch in range(3):
        data.epoch = epoch
        drawn.append([data[row]["triplet"] for row in range(11)])
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
    assert [entry["epoch"] for entry in log_of(tmp_path)] == [0, 0, 1, 1, 2, 2]


def test_one_seed_gives_one_model_and_another_seed_another(tmp_path):
    runs = [
        run_fit(tiny_model("gpt2", resid_pdrop=0.1), make_examples(11), tmp_path / str(i), seed=s)
        for i, s in enumerate((0, 0, 1))
    ]
    assert_same_weights(runs[0], runs[1])
    name = "transformer.h.0.attn.c_attn.weight"
    assert not torch.equal(runs[0][name], runs[2][name])


def test_training_lowers_the_loss_and_the_log_tells_its_parts(tmp_path):
    run_fit(tiny_model("llama"), make_examples(8), tmp_path, epochs=12, learning_rate=5e-3)
    log = log_of(tmp_path)
    assert [set(entry) for entry in log] == [{"step", "epoch", "ce", "triplet"}] * 12
    assert log[-1]["ce"] < 0.8 * log[0]["ce"]
    assert log[-1]["triplet"] < log[0]["triplet"]


def test_without_triplets_the_triplet_part_is_zero(tmp_path):
    run_fit(tiny_model("llama"), make_examples(8, triplet=False), tmp_path)
    (entry,) = log_of(tmp_path)
    assert entry["triplet"] == 0 and math.isfinite(entry["ce"])


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"micro_batch_size": 1}])
def test_saving_memory_changes_nothing(options, tmp_path):
    plain = run_fit(tiny_model("gemma3"), make_examples(8), tmp_path / "plain")
    other = run_fit(tiny_model("gemma3"), make_examples(8), tmp_path / "other", **options)
    assert_same_weights(plain, other, atol=1e-5)


def test_bf16_keeps_fp32_weights_and_stays_near_fp32(tmp_path):
    model = tiny_model("llama")
    run_fit(model, make_examples(8), tmp_path / "bf16", precision="bf16")
    run_fit(tiny_model("llama"), make_examples(8), tmp_path / "fp32")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    (bf16,), (fp32,) = log_of(tmp_path / "bf16"), log_of(tmp_path / "fp32")
    assert bf16 == pytest.approx(fp32, rel=0.02)


def test_a_loss_that_is_not_finite_stops_with_row_and_step(tmp_path):
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    with pytest.raises(RunError, match=r"train: SEM: the loss is not finite at step 1; lower"):
        run_fit(model, make_examples(8), tmp_path)
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)


def test_a_loss_that_explodes_later_names_the_later_step(tmp_path):
    with pytest.raises(RunError, match=r"not finite at step [2-9]"):
        run_fit(tiny_model("llama"), make_examples(8), tmp_path, epochs=9, learning_rate=1e30)


def test_progress_counts_examples(tmp_path):
    class Count(Progress):
        total = 0

        def advance(self, amount=1, note=None):
            self.total += amount

    count = Count()
    run_fit(tiny_model("llama"), make_examples(11), tmp_path, epochs=2, progress=count)
    assert count.total == 22


def test_examples_hold_the_draw_of_their_epoch():
    data = make_examples(12)
    for epoch in (0, 1):
        data.epoch = epoch
        near, far = data.neighbours.draw(5, "q5", 0, epoch)
        assert data[5]["triplet"] == tuple(data.examples[i].query for i in (5, near, far))
    assert "triplet" not in make_examples(12, triplet=False)[5]


def test_collate_orders_anchors_positives_negatives():
    data = make_examples(4)
    items = [data[i] for i in range(4)]
    batch = collate(items, pad=499)
    assert batch["triplet_ids"].shape[0] == 12
    for n, branch in enumerate(batch["triplet_ids"].chunk(3)):
        for row, item in zip(branch.tolist(), items, strict=True):
            assert [i for i in row if i != 499] == list(item["triplet"][n])
    assert batch["triplet_mask"].sum(1).tolist() == [
        len(item["triplet"][n]) for n in range(3) for item in items
    ]
    assert (batch["input_ids"] == 499).equal(batch["attention_mask"] == 0)

import copy
import json
import math

import pytest
import torch
from conftest import tiny_model
from training import (
    PAD,
    answer_losses,
    assert_same_weights,
    log_of,
    make_examples,
    plain_loss,
    run_fit,
)
from transformers import TrainingArguments

from accord.errors import InputError, RunError
from accord.models.losses import answer_cross_entropy
from accord.models.reading import (
    answer_logits,
    can_pack,
    head_of,
    last_states,
)
from accord.progress import Progress
from accord.train.arguments import check_arguments
from accord.train.batches import MicroBatch
from accord.train.trainer import ConsistencyTrainer

ALPHA, MARGIN = 0.7, 0.5
FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "phi", "gemma3", "gpt2")
LOSSES = ("ce", "triplet", "pair")
CPU = torch.device("cpu")


def make_trainer(model, data, folder, *, loss="triplet", micro=4, batch=8, **options):
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        save_strategy="no",
        **options,
    )
    given = {"ce": {}, "triplet": {"alpha": ALPHA, "margin": MARGIN}, "pair": {"alpha": ALPHA}}
    return ConsistencyTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        loss=loss,
        options=given[loss],
        pad=PAD,
        batch_size=batch,
    )


def whole(data):
    """All examples as one micro-batch."""
    rows = tuple(range(len(data)))
    tokens = sum(len(e.answer) for e in data.examples)
    second = rows if data.needs == "triplets" else None
    return {"batch": data.__getitems__(MicroBatch(rows, second, tokens, len(rows)))}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradients_are_those_of_plain_torch(family, tied, loss, tmp_path):
    model = tiny_model(family, tie_word_embeddings=tied)
    data = make_examples(6, loss=loss)
    trainer = make_trainer(model, data, tmp_path, loss=loss)
    model.train()
    got = trainer.compute_loss(model, whole(data))
    got.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    wanted = plain_loss(model, data, range(6), loss=loss)
    wanted.backward()
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-3, atol=3e-5)
    # The terms of the log are what entered the loss.
    assert sum(trainer.parts.values()) == pytest.approx(wanted.item(), abs=1e-5)
    assert set(trainer.parts) == ({"ce"} if loss == "ce" else {"ce", loss})


def test_the_whole_prompt_may_be_embedded_instead_of_the_query(tmp_path):
    model, data = tiny_model("llama"), make_examples(6)
    same = [e.__class__(**{**vars(e), "query": e.prompt}) for e in data.examples]
    wanted = make_trainer(model, data.__class__(same, needs="triplets", neighbours=data.neighbours),
                          tmp_path)  # fmt: skip
    got = make_trainer(model, data, tmp_path)
    got.options["reads"] = "prompt"
    first = got.compute_loss(model, whole(data))
    second = wanted.compute_loss(model, whole(wanted.train_dataset))
    torch.testing.assert_close(first, second)


def test_every_branch_of_the_triplet_carries_gradient(tmp_path):
    model = tiny_model("llama", tie_word_embeddings=False)
    data = make_examples(3)
    names = ((10, 11, 12), (20, 21), (30, 31, 32, 33))
    branches = [e.__class__(e.name, (3,), (3,), ids, False, e.original)
                for e, ids in zip(data.examples, names, strict=True)]  # fmt: skip
    trainer = make_trainer(model, data, tmp_path)
    trainer.options["margin"] = 4.1  # never satisfied
    batch = whole(data)["batch"]
    batch = batch.__class__(tuple(branches[:1]), tuple((b,) for b in branches), (), 1, 1)
    trainer.compute_loss(model, {"batch": batch}).backward()
    touched = model.get_input_embeddings().weight.grad.abs().sum(1)
    for ids in names:
        assert (touched[list(ids)] > 0).all()
    assert touched[40] == 0


def test_the_hardest_negative_asks_something_else(tmp_path):
    """All wordings of one question are together, and the anchor itself is nearest of all."""
    model, data = tiny_model("llama"), make_examples(8, wordings=4)
    trainer = make_trainer(model, data, tmp_path)
    trainer.loss, trainer.options = "batch_hard", {"alpha": 1.0, "margin": MARGIN}
    hard = trainer.compute_loss(model, whole(data)) - trainer.parts["ce"]
    trainer._anew()
    trainer.loss = "triplet"
    plain = trainer.compute_loss(model, whole(data)) - trainer.parts["ce"]
    assert hard >= plain - 1e-6  # a negative that is at least as near
    assert hard > plain


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_sees_answer_positions_only(family):
    model = tiny_model(family)
    head, data = head_of(model, "m"), make_examples(5, loss="ce")
    seen = []
    handle = head.register_forward_hook(lambda m, i, out: seen.append(out.shape))
    rows = [(*e.prompt, *e.answer) for e in data.examples]
    answers = [len(e.answer) for e in data.examples]
    logits = answer_logits(model, head, rows, answers, pad=PAD)
    handle.remove()
    assert [s.numel() for s in seen] == [sum(answers) * 500]
    wanted = torch.cat([answer_losses(model, e.prompt, e.answer)[0] for e in data.examples])
    torch.testing.assert_close(logits.log_softmax(-1), wanted, rtol=1e-4, atol=1e-4)


def test_soft_capped_logits_are_the_models_own():
    model = tiny_model("gemma3", final_logit_softcapping=2.0)
    data = make_examples(3, loss="ce")
    rows = [(*e.prompt, *e.answer) for e in data.examples]
    logits = answer_logits(
        model, model.lm_head, rows, [len(e.answer) for e in data.examples], pad=0
    )
    assert logits.abs().max() <= 2


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_sequences_do_not_see_one_another(family):
    model = tiny_model(family)
    assert can_pack(model, head_of(model, "m"), PAD)
    rows = [tuple(range(3, 3 + n)) for n in (7, 2, 30, 11, 90, 60)]
    head = head_of(model, "m")
    together, owner = last_states(model, head, rows, pad=PAD, packed=True, where=CPU)
    apart, _ = last_states(model, None, rows, pad=PAD, packed=False, where=CPU)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert torch.bincount(owner).tolist() == [len(row) for row in rows]
    one, _ = last_states(model, head, rows[3:4], pad=PAD, packed=False, where=CPU)
    torch.testing.assert_close(together[owner == 3], one, rtol=1e-4, atol=1e-4)


def test_a_model_that_mixes_what_is_packed_is_found_out(monkeypatch):
    model = tiny_model("llama")
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *, position_ids=None, **given: forward(**given))
    assert not can_pack(model, head_of(model, "m"), PAD)


def test_gradients_are_the_same_past_the_head_and_with_it(tmp_path):
    model, data = tiny_model("llama"), make_examples(7)
    trainer = make_trainer(model, data, tmp_path)
    assert trainer.past_head and trainer.packed
    found = []
    for trainer.past_head, trainer.packed in ((True, True), (True, False), (False, False)):
        model.zero_grad()
        trainer._anew()
        trainer.compute_loss(model, whole(data)).backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_a_model_without_a_head_is_refused():
    model = tiny_model("llama")
    model.get_output_embeddings = lambda: None
    with pytest.raises(InputError, match="SEM: the model has no language-model head"):
        head_of(model, "SEM")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("micro", [8, 2])
@pytest.mark.parametrize("loss", ["triplet", "pair"])
def test_a_step_follows_the_gradient_of_the_plain_loss(family, micro, loss, tmp_path):
    """Plain SGD without clipping shows the scale of the gradient, which Adam would hide."""
    model, data = tiny_model(family), make_examples(11, loss=loss)
    reference = copy.deepcopy(model)
    trainer = make_trainer(
        model,
        data,
        tmp_path,
        loss=loss,
        micro=micro,
        optim="sgd",
        learning_rate=0.01,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        num_train_epochs=1,
    )
    planned = [row for micro_batch in trainer.plan for row in micro_batch.rows]
    trainer.train()
    for rows in (planned[:8], planned[8:]):
        reference.zero_grad()
        plain_loss(reference, data, rows, loss=loss).backward()
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter -= 0.01 * parameter.grad
    assert_same_weights(reference.state_dict(), model.state_dict(), atol=1e-5)
    start = tiny_model(family).state_dict()
    assert max((t - start[n]).abs().max() for n, t in reference.state_dict().items()) > 1e-3


@pytest.mark.parametrize("count", [8, 11])
@pytest.mark.parametrize("loss", LOSSES)
def test_accumulation_changes_nothing(count, loss, tmp_path):
    """8 = 4 x 2; with 11 examples the last global batch has 3, in micro-batches of 2 and 1."""
    one, parts = (
        run_fit(
            tiny_model("llama"),
            make_examples(count, loss=loss),
            tmp_path / folder,
            loss=loss,
            micro_batch_size=micro,
            learning_rate=1e-4,
        )
        for folder, micro in (("8", 8), ("4x2", 2))
    )
    assert_same_weights(one, parts, atol=1e-5)
    for first, second in zip(log_of(tmp_path / "8"), log_of(tmp_path / "4x2"), strict=True):
        assert first == pytest.approx(second, abs=2e-5, rel=1e-4)


def test_the_log_of_a_step_that_moves_nothing_is_the_plain_loss_of_its_batch(tmp_path):
    model, data = tiny_model("llama"), make_examples(11)
    frozen = copy.deepcopy(model)
    run_fit(
        model, data, tmp_path, learning_rate=1e-12, micro_batch_size=2, alpha=ALPHA, margin=MARGIN
    )
    log = log_of(tmp_path)
    assert [entry["step"] for entry in log] == [1, 2]
    planned = make_trainer(frozen, data, tmp_path / "x", micro=2).plan
    order = [row for micro in planned for row in micro.rows]
    assert sorted(order) == list(range(11))
    for entry, rows in zip(log, (order[:8], order[8:]), strict=True):
        wanted = plain_loss(frozen, data, rows).item()
        assert entry["ce"] + entry["triplet"] == pytest.approx(wanted, abs=1e-4)
        assert entry["loss"] == pytest.approx(wanted, abs=1e-4)


def test_one_seed_gives_one_model_and_another_seed_another(tmp_path):
    runs = [
        run_fit(tiny_model("gpt2", resid_pdrop=0.1), make_examples(11), tmp_path / str(i), seed=s)
        for i, s in enumerate((0, 0, 1))
    ]
    assert_same_weights(runs[0], runs[1])
    name = "transformer.h.0.attn.c_attn.weight"
    assert not torch.equal(runs[0][name], runs[2][name])


def test_training_lowers_the_loss_and_the_log_tells_all(tmp_path):
    run_fit(
        tiny_model("llama"), make_examples(8), tmp_path, epochs=12, learning_rate=5e-3, alpha=5.0
    )
    log = log_of(tmp_path, timed=True)
    wanted = {"step", "epoch", "loss", "ce", "triplet", "grad_norm", "learning_rate", "tokens"}
    assert [set(entry) for entry in log] == [wanted | {"tokens_per_second"}] * 12
    assert log[-1]["ce"] < 0.8 * log[0]["ce"]
    assert log[-1]["triplet"] < log[0]["triplet"]
    assert log[0]["learning_rate"] == 5e-3 > log[-1]["learning_rate"]
    data = make_examples(8)
    read = sum(len(e.prompt) + len(e.answer) for e in data.examples)
    drawn = [data.examples[i].query for row in range(8) for i in (row, *data.draw(row))]
    assert log[0]["tokens"] == read + sum(map(len, drawn))


@pytest.mark.parametrize(
    ("schedule", "last"), [("constant", 1.0), ("linear", 0.25), ("cosine", 0.146)]
)
def test_the_schedule_is_as_named(schedule, last, tmp_path):
    run_fit(tiny_model("llama"), make_examples(8), tmp_path, epochs=4, schedule=schedule)
    rates = [entry["learning_rate"] / 1e-3 for entry in log_of(tmp_path)]
    assert rates[0] == 1 and rates[-1] == pytest.approx(last, abs=1e-3)


def test_steps_may_be_given_instead_of_epochs(tmp_path):
    run_fit(tiny_model("llama"), make_examples(11), tmp_path, steps=5)
    assert [(e["step"], e["epoch"]) for e in log_of(tmp_path)] == [
        (1, 0), (2, 0), (3, 1), (4, 1), (5, 2)
    ]  # fmt: skip


def test_without_second_term_there_is_none_in_the_log(tmp_path):
    run_fit(tiny_model("llama"), make_examples(8, loss="ce"), tmp_path, loss="ce")
    (entry,) = log_of(tmp_path)
    assert "triplet" not in entry and entry["loss"] == entry["ce"] and math.isfinite(entry["ce"])


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
    assert bf16 == pytest.approx(fp32, rel=0.05)


def test_a_loss_that_is_not_finite_stops_with_row_step_and_examples(tmp_path):
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    with pytest.raises(RunError) as caught:
        run_fit(model, make_examples(8), tmp_path)
    message = str(caught.value)
    assert "train: SEM: the loss is not finite at step 1 (examples " in message
    assert all(f"q{n}" in message for n in range(8)) and "lower train.learning_rate" in message
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)


def test_a_loss_that_explodes_later_names_the_step_and_the_checkpoint_before(tmp_path):
    with pytest.raises(RunError, match=r"not finite at step [2-9].*checkpoint of step [1-9]"):
        run_fit(tiny_model("llama"), make_examples(8), tmp_path, epochs=9, learning_rate=1e30)
    (kept,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    assert (kept / "model.safetensors").is_file()


def test_progress_counts_examples(tmp_path):
    class Count(Progress):
        total = 0

        def advance(self, amount=1, note=None):
            self.total += amount

    count = Count()
    run_fit(tiny_model("llama"), make_examples(11), tmp_path, epochs=2, progress=count)
    assert count.total == 22


def test_early_stopping_keeps_the_best_weights(tmp_path):
    """A rate far too high: the first epoch is the best one, and the next two are not better."""
    model, data = tiny_model("llama"), make_examples(16, loss="ce")
    select = make_examples(6, loss="ce", seed=5)
    run_fit(
        model,
        data,
        tmp_path,
        loss="ce",
        epochs=9,
        schedule="constant",
        learning_rate=0.3,
        early_stopping=2,
        select=select,
    )
    steps = [entry["step"] for entry in log_of(tmp_path)]
    last = max((tmp_path / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    state = json.loads((last / "trainer_state.json").read_text())
    losses = [e["eval_loss"] for e in state["log_history"] if "eval_loss" in e]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 and steps[-1] == 2 * len(losses) < 18
    answered = sum(len(e.answer) for e in select.examples)
    with torch.no_grad():
        nll = sum(answer_losses(model, e.prompt, e.answer)[1] for e in select.examples)
    assert float(nll) / answered == pytest.approx(losses[best], rel=1e-4)


def test_out_of_memory_names_the_knobs(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes")

    monkeypatch.setattr(ConsistencyTrainer, "training_step", full)
    with pytest.raises(
        RunError, match=r"SEM: out of memory at step 1 .* set train.micro_batch_size below 8 or "
    ):
        run_fit(tiny_model("llama"), make_examples(8), tmp_path)

    def other(*args, **kwargs):
        raise RuntimeError("something else")

    monkeypatch.setattr(ConsistencyTrainer, "training_step", other)
    with pytest.raises(RuntimeError, match="something else"):
        run_fit(tiny_model("llama"), make_examples(8), tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("learning_rate", "is decided by the other settings of `train`"),
        ("max_grad_nrm", "no such argument; did you mean `max_grad_norm`?"),
    ],
)
def test_arguments_of_transformers_are_checked(name, said):
    with pytest.raises(InputError, match=rf"train.arguments.{name}: .*{said[-20:-1]}"):
        check_arguments({name: 1}, ())


def test_arguments_of_transformers_reach_it(tmp_path):
    """Clipping to nearly nothing leaves SGD where it was."""
    model = tiny_model("llama")
    before = copy.deepcopy(model.state_dict())
    arguments = {"max_grad_norm": 1e-9, "optim": "sgd"}
    run_fit(model, make_examples(8), tmp_path, arguments=arguments)
    assert_same_weights(before, model.state_dict(), atol=1e-8)


def test_a_tracker_gets_what_the_log_gets(tmp_path, monkeypatch):
    """tensorboardX writes real event files."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    run_fit(tiny_model("llama"), make_examples(8), tmp_path, report_to=("tensorboard",))
    written = b"".join(p.read_bytes() for p in (tmp_path / "board").rglob("events*"))
    for name in ("ce", "triplet", "grad_norm", "tokens_per_second"):
        assert f"train/{name}".encode() in written
    with pytest.raises(InputError, match=r"train\.report_to: `trckio` is not installed"):
        check_arguments({}, ("trckio",))


def test_the_answers_loss_ignores_what_is_not_an_answer():
    """The prompt's tokens are no targets: other prompt, same answer, other loss; but no gradient
    of the head from prompt positions.
    """
    model = tiny_model("llama", tie_word_embeddings=False)
    row, answer = (5, 6, 7, 8, 9), 2
    logits = answer_logits(model, model.lm_head, [row], [answer], pad=0)
    answer_cross_entropy(logits, torch.tensor(row[-answer:])).backward()
    hidden, _ = last_states(model, model.lm_head, [row], pad=0, packed=False, where=CPU)
    logits = model(input_ids=torch.tensor([row])).logits[0]
    error = logits.softmax(-1)[2:4] - torch.eye(500)[list(row[3:5])]
    torch.testing.assert_close(
        model.lm_head.weight.grad, error.T @ hidden[2:4], rtol=1e-4, atol=1e-5
    )

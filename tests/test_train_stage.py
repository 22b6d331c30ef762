import pytest
import torch
from conftest import make_tokenizer, make_wordings, tiny_model
from safetensors.torch import load_file
from training import log_of

from accord import config, stages
from accord.errors import InputError, RunError
from accord.progress import Progress
from accord.records import Passage, Wording
from accord.train import fit as fitting
from accord.train import job as jobs
from accord.train.plan import plan_rows, select
from accord.train.stage import train

KINDS = ("how_to_do", "i_we", "semantic", "singular_plural_article")
WORDINGS = make_wordings(21, types=KINDS)
CONTEXTS = {
    w.id: [
        Passage(id="p1", title="Menu", text=f"The menu of {w.original_id} has a save button."),
        Passage(id="p2", text="Only owners may do this."),
    ]
    for w in WORDINGS
}
ROWS = ("SFT", "SFT+TL", "HTD", "SEM", "SPA", "ALL")
SETTINGS = config.Train(
    epochs=1, learning_rate=1e-3, batch_size=8, micro_batch_size=8, precision="fp32"
)
CE_ONLY = SETTINGS.model_copy(update={"loss": "ce"})
ONE = {"specialists": {"SEM": ("semantic",)}}  # fewer rows where their number does not matter


@pytest.fixture(scope="module")
def smallest(make_model):
    return make_model("llama", num_hidden_layers=1, hidden_size=16, intermediate_size=16)


def run_train(base, out, encoder, *, wordings=WORDINGS, settings=SETTINGS, key="k", **options):
    given = {"prompt": config.Prompt(), "reserve": 16, "contexts": CONTEXTS} | options
    contexts = given.pop("contexts")
    return train(base, wordings, contexts, encoder, out, settings=settings, key=key, **given)


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def same_weights(one, two):
    return all(torch.equal(t, weights_of(two)[n]) for n, t in weights_of(one).items())


class Spy:
    """Stands in for the training of a job: notes what it would learn, and trains nothing."""

    def __init__(self, monkeypatch, fail_at=None):
        self.rows, self.fail_at = {}, fail_at
        monkeypatch.setattr(jobs, "work", self)

    def __call__(self, job, progress):
        if job.recipe.name == self.fail_at:
            raise KeyboardInterrupt
        self.rows[job.recipe.name] = job
        return []


def test_the_rows_are_those_of_the_paper():
    rows = {row.name: row for row in plan_rows(config.Train())}
    assert tuple(rows) == ROWS
    assert [r.triplet for r in rows.values()] == [False, True, True, True, True, True]
    assert [r.role for r in rows.values()] == ["sft", "sft", *["specialist"] * 3, "all"]
    assert rows["HTD"].types == ("how_to_do", "i_we")
    assert set(rows["ALL"].types) == set(KINDS) and rows["SFT"].types == ()


def test_with_cross_entropy_only_there_is_no_row_sft_tl():
    rows = plan_rows(CE_ONLY)
    assert [r.name for r in rows] == ["SFT", "HTD", "SEM", "SPA", "ALL"]
    assert not any(r.triplet for r in rows)


LEARNED = {
    "SFT": (),
    "SFT+TL": (),
    "HTD": ("how_to_do", "i_we"),
    "SEM": ("semantic",),
    "SPA": ("singular_plural_article",),
    "ALL": KINDS,
}


def test_each_row_learns_the_originals_and_its_kinds(smallest, tmp_path, fake_encoder, monkeypatch):
    spy = Spy(monkeypatch)
    settings = config.Train.model_validate(SETTINGS.model_dump() | {"margin": 0.25})
    run_train(smallest, tmp_path, fake_encoder, settings=settings)
    assert list(spy.rows) == list(LEARNED)
    for name, types in LEARNED.items():
        job = spy.rows[name]
        wanted = [w.id for w in WORDINGS if w.type is None or w.type in types]
        assert [e.name for e in job.examples] == wanted
        assert len(wanted) == 21 * (1 + len(types))
        assert job.recipe.loss == ("ce" if name == "SFT" else "triplet")
        assert job.recipe.options == ({} if name == "SFT" else {"margin": 0.25})
        assert (job.neighbours is None) == (name == "SFT")
        if job.neighbours:  # positives and negatives come from the row's own data
            for found in (job.neighbours.nearest, job.neighbours.farthest):
                assert found.shape == (len(wanted), 10)
                assert 0 <= found.min() <= found.max() < len(wanted)


def test_a_type_that_no_specialist_wants_is_learned_by_no_row():
    row = plan_rows(config.Train(specialists={"SEM": ("semantic",)}))[-1]
    assert row.name == "ALL"
    assert {w.type for w in select(row, WORDINGS)} == {None, "semantic"}


def test_an_answer_is_the_same_for_all_wordings_and_contexts_are_their_own(
    smallest, tmp_path, fake_encoder, monkeypatch
):
    spy = Spy(monkeypatch)
    contexts = dict(CONTEXTS) | {"q0-semantic": [Passage(id="own", text="A passage of its own.")]}
    run_train(smallest, tmp_path, fake_encoder, contexts=contexts)
    examples = {e.name: e for e in spy.rows["SEM"].examples}
    decode = make_tokenizer().decode
    assert examples["q0"].answer == examples["q0-semantic"].answer
    assert decode(examples["q0"].answer) == "Open menu 0, then save.<|im_end|>"
    assert "A passage of its own." in decode(examples["q0-semantic"].prompt)
    assert "A passage of its own." not in decode(examples["q0"].prompt)
    assert decode(examples["q0-semantic"].query) == "semantic way to close account 0"


def test_each_row_is_a_model_folder(smallest, tmp_path, fake_encoder):
    class Count(Progress):
        total = done = 0

        def start(self, total, unit=""):
            self.total = total

        def advance(self, amount=1, note=None):
            self.done += amount

    count = Count()
    models, notes = run_train(smallest, tmp_path, fake_encoder, progress=count)
    assert [(m.name, m.path) for m in models] == [(n, f"train/{n}") for n in ROWS]
    assert not notes
    assert count.total == count.done == 21 * (1 + 1 + 3 + 2 + 2 + 5)
    for name in ROWS:
        folder = tmp_path / name
        assert {"config.json", "model.safetensors", "tokenizer.json", "log.jsonl"} <= {
            p.name for p in folder.iterdir()
        }
        assert not same_weights(folder, smallest)
        assert "chat_template" in "".join(p.name + p.read_text() for p in folder.glob("*.j*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(ROWS)


def test_a_finished_row_is_kept_while_what_it_depends_on_stays(
    smallest, tmp_path, fake_encoder, monkeypatch
):
    settings = CE_ONLY.model_copy(update=ONE)
    spy = Spy(monkeypatch)

    def trained(**changes):
        spy.rows.clear()
        given = {"settings": settings, "key": "one"} | changes
        models, _ = run_train(smallest, tmp_path, fake_encoder, **given)
        return list(spy.rows), [m.name for m in models]

    assert trained() == (["SFT", "SEM", "ALL"], ["SFT", "SEM", "ALL"])
    assert trained()[0] == []
    (tmp_path / "SEM" / "training.json").unlink()
    assert trained()[0] == ["SEM"]
    # A specialist more: only it and ALL are new; one less: its model goes.
    more = settings.model_copy(update={"specialists": ONE["specialists"] | {"I": ("i_we",)}})
    assert trained(settings=more)[0] == ["I", "ALL"]
    assert trained() == (["ALL"], ["SFT", "SEM", "ALL"]) and not (tmp_path / "I").exists()
    # Another wording of one kind: the rows that learn it; another passage or rate: all of them.
    reworded = [
        w.model_copy(update={"query": f"{w.query} now"}) if w.id == "q3-semantic" else w
        for w in WORDINGS
    ]
    assert trained(wordings=reworded)[0] == ["SEM", "ALL"]
    assert trained()[0] == ["SEM", "ALL"]
    other = CONTEXTS | {"q0": CONTEXTS["q0"][:1]}
    for changes in (
        {"contexts": other},
        {"settings": settings.model_copy(update={"learning_rate": 1e-4})},
        {"key": "two"},
        {"seed": 3},
        {"reserve": 17},
    ):
        assert trained(**changes)[0] == ["SFT", "SEM", "ALL"]
        assert trained()[0] == ["SFT", "SEM", "ALL"]
    # What does not change the weights changes nothing.
    for quiet in ({"report_to": ("tensorboard",)}, {"checkpoint_steps": 5}, {"side_by_side": 1}):
        assert trained(settings=settings.model_copy(update=quiet))[0] == []


def test_after_a_crash_only_what_is_missing_is_trained_to_the_same_weights(
    smallest, tmp_path, fake_encoder, monkeypatch
):
    first, broken = tmp_path / "whole", tmp_path / "broken"
    settings = SETTINGS.model_copy(update=ONE | {"epochs": 2})
    run_train(smallest, first, fake_encoder, settings=settings)
    trained, real = [], fitting.ConsistencyTrainer.compute_loss

    def crashing(self, *args, **kwargs):
        if self.state.global_step == 8 and len(self.train_dataset) == 42:
            trained.append("SEM")
            if trained == ["SEM"]:
                raise MemoryError("in SEM, in its second epoch")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(fitting.ConsistencyTrainer, "compute_loss", crashing)
    with pytest.raises(RunError, match="train: SEM: out of memory at step 9"):
        run_train(smallest, broken, fake_encoder, settings=settings)
    assert not (broken / "SEM").exists()
    assert list((broken / ".SEM.partial" / "checkpoints").glob("checkpoint-*"))
    run_train(smallest, broken, fake_encoder, settings=settings)
    for name in ("SFT", "SFT+TL", "SEM", "ALL"):
        assert same_weights(first / name, broken / name)
        assert log_of(first / name) == log_of(broken / name)
    assert sorted(p.name for p in broken.iterdir()) == ["ALL", "SEM", "SFT", "SFT+TL"]


def test_checkpoints_of_another_config_are_dropped_and_told_of(
    smallest, tmp_path, fake_encoder, monkeypatch
):
    settings = CE_ONLY.model_copy(update=ONE | {"epochs": 2})

    def crash(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise MemoryError
        return real(self, *args, **kwargs)

    real = fitting.ConsistencyTrainer.compute_loss
    monkeypatch.setattr(fitting.ConsistencyTrainer, "compute_loss", crash)
    with pytest.raises(RunError, match="SFT: out of memory"):
        run_train(smallest, tmp_path, None, settings=settings)
    monkeypatch.undo()
    changed = settings.model_copy(update={"learning_rate": 1e-4})
    _, notes = run_train(smallest, tmp_path, None, settings=changed)
    assert "train: SFT: the checkpoints of a run with another config" in notes[0]
    run_train(smallest, tmp_path / "clean", None, settings=changed)
    assert same_weights(tmp_path / "SFT", tmp_path / "clean" / "SFT")


def test_controls_are_what_they_say(smallest, tmp_path, fake_encoder):
    """Scaled changes, the mean of seeds, and as many steps as all specialists together."""
    controls = config.Controls(scaled=1.5, soup=3, longer=True)
    two = {"SEM": ("semantic",), "I": ("i_we",)}
    settings = CE_ONLY.model_copy(update={"specialists": two, "controls": controls})
    models, _ = run_train(smallest, tmp_path, fake_encoder, settings=settings)
    names = ["SFT", "SEM", "I", "ALL", "ALL scaled", "ALL soup", "ALL longer", "SFT scaled"]
    assert [m.name for m in models] == names
    assert [m.role for m in models][4:] == ["control"] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(n.replace(" ", "-") for n in names)
    base = weights_of(smallest)
    for of in ("ALL", "SFT"):
        once, scaled = weights_of(tmp_path / of), weights_of(tmp_path / f"{of}-scaled")
        for name, tensor in scaled.items():
            torch.testing.assert_close(tensor, base[name] + 1.5 * (once[name] - base[name]))
    seeds = []
    for seed in (0, 1, 2):
        run_train(smallest, tmp_path / "s", None, settings=CE_ONLY.model_copy(
            update={"specialists": two}), seed=seed)  # fmt: skip
        seeds.append(weights_of(tmp_path / "s" / "ALL"))
    for name, tensor in weights_of(tmp_path / "ALL-soup").items():
        torch.testing.assert_close(tensor, sum(s[name] for s in seeds) / 3)
    steps = {n: len(log_of(tmp_path / n)) for n in ("SEM", "I", "ALL", "ALL-longer")}
    assert steps["ALL-longer"] == steps["SEM"] + steps["I"] > steps["ALL"]
    models, _ = run_train(smallest, tmp_path, fake_encoder, settings=CE_ONLY.model_copy(
        update={"specialists": two}))  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "s") == ["ALL", "I", "SEM", "SFT"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_lora_leaves_a_whole_model_and_its_adapter(family, make_model, tmp_path):
    small = make_model(family)
    lora = config.Lora(r=4, alpha=8)
    settings = CE_ONLY.model_copy(update=ONE | {"lora": lora, "learning_rate": 1e-2})
    run_train(small, tmp_path, None, settings=settings)
    base, tuned = weights_of(small), weights_of(tmp_path / "SEM")
    adapter = load_file(tmp_path / "SEM" / "adapter" / "adapter_model.safetensors")
    assert set(tuned) == set(base)
    changed = {n for n, t in tuned.items() if not torch.equal(t, base[n])}
    assert changed and all(".layers." in n or ".h." in n for n in changed)
    name = next(n for n in adapter if n.endswith("lora_A.weight"))
    module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
    a, b = adapter[name], adapter[name.replace("lora_A", "lora_B")]
    delta = (b @ a) * 2  # alpha / r
    wanted = base[f"{module}.weight"] + (delta.T if family == "gpt2" else delta)
    torch.testing.assert_close(tuned[f"{module}.weight"], wanted, rtol=1e-5, atol=1e-6)
    assert not list(tmp_path.rglob("*.bin"))


def test_a_lora_target_that_matches_nothing_names_what_there_is(smallest, tmp_path):
    lora = config.Lora(targets=("c_attn",))
    settings = CE_ONLY.model_copy(update=ONE | {"lora": lora})
    with pytest.raises(InputError, match=r"train.lora.targets: \['c_attn'\] matches no .*q_proj"):
        run_train(smallest, tmp_path, None, settings=settings)


def test_rows_side_by_side_are_those_one_after_the_other(smallest, tmp_path, fake_encoder):
    class Count(Progress):
        total = done = 0

        def start(self, total, unit=""):
            self.total = total

        def advance(self, amount=1, note=None):
            self.done += amount

    settings = SETTINGS.model_copy(update=ONE)
    run_train(smallest, tmp_path / "one", fake_encoder, settings=settings)
    count = Count()
    both = settings.model_copy(update={"side_by_side": 2})
    run_train(smallest, tmp_path / "two", fake_encoder, settings=both, progress=count)
    for name in ("SFT", "SFT+TL", "SEM", "ALL"):
        assert same_weights(tmp_path / "one" / name, tmp_path / "two" / name)
    assert count.total == count.done == 21 * (1 + 1 + 2 + 2)


def test_a_row_that_fails_beside_others_says_so(make_model, tmp_path):
    model = tiny_model("llama", num_hidden_layers=1)
    with torch.no_grad():
        model.model.norm.weight[:] = torch.nan
    model.save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    settings = CE_ONLY.model_copy(update=ONE | {"side_by_side": 2})
    with pytest.raises(RunError, match="the loss is not finite at step 1"):
        run_train(tmp_path / "base", tmp_path / "out", None, settings=settings)
    assert not [p for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")]


def test_a_specialist_without_any_wording_of_its_kinds_is_told_of(smallest, tmp_path, monkeypatch):
    Spy(monkeypatch)
    settings = CE_ONLY.model_copy(update={"specialists": {"TYPO": ("typo",)}})
    _, notes = run_train(smallest, tmp_path, None, settings=settings)
    assert "train.specialists.TYPO: no training question has a variation of `typo`" in notes[0]


def test_an_answer_longer_than_the_window_is_named(make_model, tmp_path):
    small = make_model("llama", max_position_embeddings=128)
    long = [w.model_copy(update={"answer": "close the menu " * 80}) for w in WORDINGS[:1]]
    with pytest.raises(InputError, match=r"the answer of `q0` takes \d+ tokens and .* is 128"):
        run_train(small, tmp_path, None, wordings=[*long, *WORDINGS[1:]], settings=CE_ONLY)


def test_the_pipeline_gives_training_the_train_split_alone(monkeypatch, tmp_path):
    given = {}

    def fake_train(base, wordings, contexts, encoder, out, **options):
        given.update(wordings=wordings, contexts=contexts, seed=options["seed"])
        return [], []

    class Work:
        config = config.Config(base="b", data=config.Data(qa="qa.jsonl"), seed=7)
        base, encoder = "base", "encoder"

        def fingerprint(self, name):
            return name

        def wordings(self, *splits):
            everything = [w for s in ("train", "dev", "test") for w in make_wordings(3, split=s)]
            return [w for w in everything if w.split in splits]

        def contexts(self):
            return CONTEXTS

    monkeypatch.setattr(stages, "train", fake_train)
    stages.do_train(Work(), tmp_path, "key", Progress())
    assert {w.split for w in given["wordings"]} == {"train"} and given["seed"] == 7


def test_questions_without_an_answer_are_left_out(smallest, tmp_path, fake_encoder, monkeypatch):
    silent = [
        w.model_copy(update={"id": f"s-{w.id}", "original_id": "s", "answer": answer})
        for w, answer in zip(WORDINGS[:3], (None, "", "  \n"), strict=True)
    ]
    spy = Spy(monkeypatch)
    run_train(smallest, tmp_path, fake_encoder, wordings=[*silent, *WORDINGS])
    for job in spy.rows.values():
        assert not [e.name for e in job.examples if e.name.startswith("s-")]


def test_no_answers_at_all_or_too_few_queries_are_refused_before_any_work(tmp_path, fake_encoder):
    without = [w.model_copy(update={"answer": None}) for w in WORDINGS]
    with pytest.raises(InputError, match="no training question has an answer"):
        run_train(tmp_path / "none", tmp_path / "out", fake_encoder, wordings=without)
    few = make_wordings(20)
    with pytest.raises(InputError, match=r"SFT\+TL has 20 training queries"):
        run_train(tmp_path / "none", tmp_path / "out", fake_encoder, wordings=few)
    assert not (tmp_path / "out").exists()


def test_cross_entropy_alone_needs_no_encoder_and_few_questions(smallest, tmp_path):
    few = make_wordings(2, types=KINDS)
    settings = CE_ONLY.model_copy(update=ONE)
    models, _ = run_train(smallest, tmp_path, None, wordings=few, settings=settings)
    assert len(models) == 3


def test_a_base_without_chat_template_is_told_of(make_model, tmp_path, monkeypatch):
    Spy(monkeypatch)
    _, notes = run_train(make_model("llama", chat=False), tmp_path, None, settings=CE_ONLY)
    assert notes == ["the tokenizer has no chat template: prompts are plain text"]


def test_cut_passages_are_told_of(smallest, tmp_path, monkeypatch):
    Spy(monkeypatch)
    prompt = config.Prompt(max_tokens=80)
    _, notes = run_train(smallest, tmp_path, None, settings=CE_ONLY, prompt=prompt)
    assert "training: passages were cut in 105 prompts to fit the window" in notes


def test_the_seed_decides_the_weights(smallest, tmp_path, fake_encoder):
    settings = CE_ONLY.model_copy(update=ONE)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_train(smallest, tmp_path / name, fake_encoder, settings=settings, seed=seed)
    assert same_weights(tmp_path / "a" / "SEM", tmp_path / "b" / "SEM")
    assert not same_weights(tmp_path / "a" / "SEM", tmp_path / "c" / "SEM")


def test_a_question_longer_than_the_window_is_named(make_model, tmp_path):
    small = make_model("llama", max_position_embeddings=128)
    long = Wording.model_validate(
        WORDINGS[0].model_dump() | {"query": "close the account " * 60, "id": "q0"}
    )
    with pytest.raises(InputError, match="question `q0`: instruction and question alone"):
        run_train(small, tmp_path, None, wordings=[long, *WORDINGS[1:]], settings=CE_ONLY)


def test_a_model_with_nan_says_which_row_and_step(make_model, tmp_path):
    model = tiny_model("llama", num_hidden_layers=1)
    with torch.no_grad():
        model.model.norm.weight[:] = torch.nan
    model.save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    with pytest.raises(RunError, match="train: SFT: the loss is not finite at step 1"):
        run_train(tmp_path / "base", tmp_path / "out", None, settings=CE_ONLY)
    assert not (tmp_path / "out" / "SFT").exists()

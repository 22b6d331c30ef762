import json

import pytest
import torch
from conftest import make_tokenizer, make_wordings, tiny_model
from safetensors.torch import load_file

from accord import config, stages
from accord.errors import InputError, RunError
from accord.progress import Progress
from accord.records import Passage, Wording
from accord.train import trainer
from accord.train.stage import plan_rows, select, train

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
    """Stands in for `fit`: notes what each row would be trained on, and trains nothing."""

    def __init__(self, monkeypatch, fail_at=None):
        self.rows, self.fail_at, self.fit = {}, fail_at, trainer.fit
        monkeypatch.setattr(trainer, "fit", self)

    def __call__(self, model, data, **options):
        if options["note"] == self.fail_at:
            raise KeyboardInterrupt
        self.rows[options["note"]] = (data, options)


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
    run_train(smallest, tmp_path, fake_encoder)
    assert list(spy.rows) == list(LEARNED)
    for name, types in LEARNED.items():
        data, options = spy.rows[name]
        wanted = [w.id for w in WORDINGS if w.type is None or w.type in types]
        assert [e.name for e in data.examples] == wanted
        assert len(wanted) == 21 * (1 + len(types))
        assert options["alpha"] == SETTINGS.alpha and options["margin"] == SETTINGS.margin
        assert (data.neighbours is None) == (name == "SFT")
        if data.neighbours:  # positives and negatives come from the row's own data
            both = (*data.neighbours.nearest, *data.neighbours.farthest)
            assert len(both) == 2 * len(wanted)
            assert max(map(max, both)) < len(wanted)


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
    examples = {e.name: e for e in spy.rows["SEM"][0].examples}
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


def test_a_finished_row_is_kept_under_its_key_and_redone_under_another(
    smallest, tmp_path, fake_encoder, monkeypatch
):
    settings = CE_ONLY.model_copy(update=ONE)
    run_train(smallest, tmp_path, fake_encoder, settings=settings, key="one")
    spy = Spy(monkeypatch)
    models, _ = run_train(smallest, tmp_path, fake_encoder, settings=settings, key="one")
    assert not spy.rows and len(models) == 3
    (tmp_path / "SEM" / "training.json").unlink()
    run_train(smallest, tmp_path, fake_encoder, settings=settings, key="one")
    assert list(spy.rows) == ["SEM"]
    run_train(smallest, tmp_path, fake_encoder, settings=settings, key="two")
    assert list(spy.rows) == ["SEM", "SFT", "ALL"]
    for name in spy.rows:
        assert json.loads((tmp_path / name / "training.json").read_text())["key"] == "two"


def test_after_a_crash_only_what_is_missing_is_trained_to_the_same_weights(
    smallest, tmp_path, fake_encoder, monkeypatch
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = SETTINGS.model_copy(update=ONE)
    run_train(smallest, whole, fake_encoder, settings=settings)
    trained, real = [], trainer.fit

    def crashing(model, data, **options):
        trained.append(options["note"])
        real(model, data, **options)
        if trained == ["SFT", "SFT+TL", "SEM"]:
            raise MemoryError("in row 3")

    monkeypatch.setattr(trainer, "fit", crashing)
    with pytest.raises(MemoryError):
        run_train(smallest, broken, fake_encoder, settings=settings)
    assert not (broken / "SEM").exists() and (broken / ".SEM.partial").exists()
    run_train(smallest, broken, fake_encoder, settings=settings)
    assert trained[3:] == ["SEM", "ALL"]
    for name in ("SFT", "SFT+TL", "SEM", "ALL"):
        assert same_weights(whole / name, broken / name)
        logs = [(folder / name / "log.jsonl").read_text() for folder in (whole, broken)]
        assert logs[0] == logs[1]
    assert sorted(p.name for p in broken.iterdir()) == ["ALL", "SEM", "SFT", "SFT+TL"]


def test_the_pipeline_gives_training_the_train_split_alone(monkeypatch, tmp_path):
    given = {}

    def fake_train(base, wordings, contexts, encoder, out, **options):
        given.update(wordings=wordings, contexts=contexts, seed=options["seed"])
        return [], []

    class Work:
        config = config.Config(base="b", data=config.Data(qa="qa.jsonl"), seed=7)
        base, encoder = "base", "encoder"

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
    for data, _ in spy.rows.values():
        assert not [e.name for e in data.examples if e.name.startswith("s-")]


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
    assert "training: passages were cut in 21 prompts to fit the window" in notes


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
        run_train(small, tmp_path, None, wordings=[long], settings=CE_ONLY)


def test_a_model_with_nan_says_which_row_and_step(make_model, tmp_path):
    model = tiny_model("llama", num_hidden_layers=1)
    with torch.no_grad():
        model.model.norm.weight[:] = torch.nan
    model.save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    with pytest.raises(RunError, match="train: SFT: the loss is not finite at step 1"):
        run_train(tmp_path / "base", tmp_path / "out", None, settings=CE_ONLY)
    assert not (tmp_path / "out" / "SFT").exists()

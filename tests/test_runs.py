"""The run folder: what is kept, what is done again, and that a kill changes no byte."""

import hashlib
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from helpers import SMALL, example_config, result

from accord import registry
from accord.config import STAGES
from accord.configfile import load_config
from accord.errors import InputError, RunError
from accord.generate.request import Reply
from accord.pipeline import plan, run
from accord.progress import Progress
from accord.registry import register
from accord.runs import Run, hash_json, read_config


@pytest.fixture(scope="module", autouse=True)
def parrot():
    """A backend that needs no worker: its answers depend on the model's bytes and the query."""
    for kind in registry.KINDS:
        registry.components(kind)
    before = dict(registry._components)

    @register("backends", "parrot")
    def parrot(jobs, *, prompt, max_new_tokens, cache):
        """Words of the query, chosen by a hash of the weights."""
        for job in jobs:
            weights = b"".join(
                f.read_bytes() for f in sorted(Path(job.folder).glob("*.safetensors"))
            )
            for request in job.requests:
                digest = hashlib.sha256(weights + request.id.encode()).digest()
                words = request.query.split()
                text = " ".join(words[: 1 + digest[0] % 4])
                yield Reply(job.model, job.repeat, request.id, text)

    yield
    registry._components.clear()
    registry._components.update(before)


@pytest.fixture(scope="module")
def settings(tmp_path_factory, tiny_llama):
    """The path of a config whose run takes a second or two."""
    import yaml

    path = example_config(tmp_path_factory.mktemp("small"), tiny_llama, **SMALL)
    tree = yaml.safe_load(path.read_text())
    del tree["generate"]["workers"]  # of the other backend
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def finished(settings):
    """The folder of an undisturbed run, not to be touched."""
    place = settings.parent / "run"
    run(load_config(settings), place)
    return place.rename(settings.parent / "finished")


@pytest.fixture
def folder(finished):
    """A copy of it that may be spoilt, where the run took place (merge_config.yaml has paths)."""
    place = finished.parent / "run"
    shutil.copytree(finished, place)
    yield place
    shutil.rmtree(place)


def work(settings, folder, *sets, **options):
    """Run; returns the stages that were done, not kept."""
    done = []

    def say(stage, what, seconds):
        if what == "began":
            done.append(stage)

    run(load_config(settings, sets), folder, say=say, **options)
    return done


def after(stage):
    return list(STAGES[STAGES.index(stage) :])


def test_an_unchanged_run_is_kept_whole(settings, folder):
    assert work(settings, folder) == []


CHANGES = {
    "report.title=Other": after("report"),
    "evaluate.resamples=300": after("evaluate"),
    "merge.density=0.5": after("merge"),
    "weigh.a=3": after("weigh"),
    "train.weight_decay=0.2": after("train"),
    "retrieve.k=1": after("retrieve"),
    "generate.max_new_tokens=5": after("train"),  # it leaves less room for the prompt
    "vary.max_per_question=1": after("vary"),
    "seed=1": after("vary"),
    "data.limit.train=7": after("vary"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_option_reruns_its_stage_and_those_after(settings, folder, change):
    steps = dict(plan(load_config(settings, [change]), folder))
    todo = [stage for stage, what in steps.items() if what == "to do"]
    if change.startswith("generate"):
        assert set(todo) >= {"train", "generate", "evaluate", "report"}
    assert todo == CHANGES[change]


def test_a_rerun_after_a_change_does_what_the_plan_says_and_back_again(settings, folder):
    before = result(folder)
    assert work(settings, folder, "merge.density=0.5") == after("merge")
    assert result(folder)[1] != before[1]
    assert work(settings, folder) == after("merge")
    assert result(folder) == before


OUTPUTS = [
    "vary/variations.jsonl",
    "retrieve/contexts.jsonl",
    "train/H/model.safetensors",
    "weigh/layer_weights.json",
    "merge/model/model.safetensors",
    "generate/answers.jsonl",
    "evaluate/table.json",
    "report/report.html",
]


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("how", ["deleted", "tampered"])
def test_a_spoilt_output_is_made_again_and_nothing_else_changes(settings, folder, name, how):
    before = result(folder)
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if how == "tampered":
        path.write_bytes(data[:-1] + b"~")
    done = work(settings, folder)
    # A stage that makes the same bytes again leaves those after it valid.
    assert done == [name.partition("/")[0]]
    assert result(folder) == before


@pytest.mark.parametrize("name", ["table.json", "report.html"])
def test_the_copies_at_the_top_are_put_back(settings, folder, name):
    before = (folder / name).read_bytes()
    (folder / name).unlink()
    assert work(settings, folder) == []
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize("text", ["[]", "{}", "", "{", '{"key": 1, "outputs": 3}'])
@pytest.mark.parametrize("name", ["merge/manifest.json", ".hashes.json"])
def test_damaged_bookkeeping_costs_work_and_no_traceback(settings, folder, name, text):
    before = result(folder)
    (folder / name).write_text(text)
    assert work(settings, folder) == (["merge"] if name.startswith("merge") else [])
    assert result(folder) == before


def test_half_a_line_of_events_is_no_obstacle(settings, folder):
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"time": 1, "stage": "tr')
    assert work(settings, folder, force="report") == ["report"]


@pytest.mark.parametrize("stage", ["vary", "weigh", "report"])
def test_force_does_a_stage_again(settings, folder, stage):
    before = result(folder)
    assert work(settings, folder, force=stage) == [stage]
    assert result(folder) == before


def test_from_and_until_bound_the_work(settings, folder, tmp_path):
    assert work(settings, tmp_path / "new", last="retrieve") == ["vary", "retrieve"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir() if p.is_dir()) == [
        "retrieve",
        "vary",
    ]
    with pytest.raises(InputError, match="weigh needs the stage train"):
        work(settings, tmp_path / "new", first="weigh")
    assert (
        work(settings, folder, "train.weight_decay=9", first="evaluate") == []
    )  # earlier as they are


def test_two_runs_with_one_seed_are_the_same_and_another_seed_is_not(settings, finished, tmp_path):
    work(settings, tmp_path / "again")
    assert result(tmp_path / "again") == result(finished)
    work(settings, tmp_path / "other", "seed=1")
    assert result(tmp_path / "other")[1] != result(finished)[1]


class Fatal(Progress):
    """Kills its process, as the system would, when so many units are done."""

    def __init__(self, units):
        self.left = units

    def advance(self, amount=1, note=None):
        self.left -= amount
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(config, folder, stage, units):
    """Run in a child that dies within `stage`."""
    child = multiprocessing.get_context("fork").Process(
        target=run,
        args=(config, folder),
        kwargs={"watch": lambda name: Fatal(units) if name == stage else Progress()},
    )
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(("stage", "units"), [("vary", 9), ("train", 14)])
def test_a_run_that_was_killed_goes_on_and_ends_the_same(
    settings, finished, tmp_path, stage, units
):
    folder = tmp_path / "run"
    killed(load_config(settings), folder, stage, units)
    assert not (folder / stage / "manifest.json").exists()
    trained = {p: p.stat().st_mtime_ns for p in folder.glob("train/*/training.json")}
    assert bool(trained) == (stage == "train")
    assert work(settings, folder) == after(stage)
    assert result(folder) == result(finished)
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in trained.items())  # kept, not redone


LATER = [("retrieve", 0), ("weigh", 0), ("merge", 0), ("merge", 20), ("generate", 0),
         ("generate", 15), ("evaluate", 0), ("report", 0)]  # fmt: skip


@pytest.mark.parametrize(("stage", "units"), LATER)
def test_a_stage_that_was_killed_is_done_again_and_no_other(
    settings, finished, folder, stage, units
):
    shutil.rmtree(folder / stage)
    killed(load_config(settings), folder, stage, units)
    assert not (folder / stage / "manifest.json").exists()
    assert work(settings, folder) == [stage]
    assert result(folder) == result(finished)


@pytest.mark.slow
def test_a_row_of_other_options_is_not_kept(settings, finished, tmp_path):
    killed(load_config(settings, ["train.learning_rate=0.01"]), tmp_path / "run", "train", 14)
    assert list(tmp_path.glob("run/train/*/training.json"))
    work(settings, tmp_path / "run", last="train")
    for row in ("SFT", "H", "I", "ALL"):
        weights = [f / "train" / row / "model.safetensors" for f in (tmp_path / "run", finished)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("left", [[".lock"], [".lock", ".config.json.partial"], []])
def test_what_is_left_of_a_run_killed_at_its_start_is_no_obstacle(settings, tmp_path, left):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("")
    assert work(settings, folder, last="vary") == ["vary"]


def test_the_lock_is_held_while_open_and_released_after(tmp_path):
    one, two = Run(tmp_path / "run"), Run(tmp_path / "run")
    one.open({})
    with pytest.raises(RunError, match="another process"):
        two.open({})
    one.close()
    two.open({})
    two.close()


def test_a_folder_that_is_no_run_has_no_config(tmp_path):
    for content in (None, "[]", "{", '{"model_type": "llama"}'):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match="is no run folder"):
            read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"accord": "9", "seed": "x"}')
    with pytest.raises(InputError, match=r"config\.json"):
        read_config(tmp_path)


def test_the_hash_of_a_folder_sees_names_and_content(tmp_path):
    run_ = Run(tmp_path / "none")
    seen = set()
    for name, text in (("a", "1"), ("a", "2"), ("b", "2")):
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / name).write_text(text)
        seen.add(run_.hash_folder(tmp_path / "m"))
    assert len(seen) == 3
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})

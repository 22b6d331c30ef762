"""Training that is killed, and training in several processes: real processes, a tiny model."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import HELPDESK
from helpers import ENVIRONMENT, accord, example_config, refusal
from safetensors.torch import load_file
from training import assert_same_weights, log_of

from accord.train import checkpoints

ONE = {"specialists": {"SEM": ["semantic"]}, "batch_size": 4, "micro_batch_size": 2}
EXACT = {"epochs": 3, "precision": "fp32", "checkpoint_steps": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def prepared(make_model, tmp_path_factory):
    """(config, run folder), ready to train; dropout would tell on a lost RNG state."""
    small = make_model("gpt2", resid_pdrop=0.1, embd_pdrop=0.1)
    folder = tmp_path_factory.mktemp("kills")
    config = example_config(folder, small, train=ONE | EXACT | {"loss": "triplet"})
    done = accord("run", config, "-o", folder / "run", "--until", "retrieve", "--quiet")
    assert done.returncode == 0, done.stderr
    return config, folder / "run"


def copy_of(run, folder):
    """A copy of a prepared run."""
    subprocess.run(["cp", "-r", str(run), str(folder)], check=True)
    return folder


def weights(run):
    """The weights of every row."""
    return {
        path.parent.name: load_file(path) for path in sorted(run.glob("train/*/model.safetensors"))
    }


@pytest.mark.slow
def test_killed_at_ten_moments_the_weights_are_bit_identical(prepared, tmp_path):
    """Also while a checkpoint is written: every other kill waits for one that is being made."""
    config, run = prepared
    whole, killed = copy_of(run, tmp_path / "whole"), copy_of(run, tmp_path / "killed")
    assert accord("train", config, "-o", whole, "--quiet").returncode == 0
    draw, saves = random.Random(0), 0

    def steps():
        """Steps of all rows that are in a log."""
        logs = [*killed.glob("train/*/log.jsonl"), *killed.glob("train/.*/log.jsonl")]
        return sum(len(log.read_bytes().splitlines()) for log in logs if log.exists())

    for kill in range(10):
        process = subprocess.Popen(
            [sys.executable, "-m", "accord", "train", str(config), "-o", str(killed), "--quiet"],
            env=ENVIRONMENT,
        )
        wanted = steps() + draw.randint(2, 6)
        while steps() < wanted:
            assert process.poll() is None, f"it ended before kill {kill}"
            time.sleep(0.002)
        saving = "train/.*/checkpoints/.partial/checkpoint-*"
        limit = time.monotonic() + 3
        while kill % 2 == 0 and not list(killed.glob(saving)) and time.monotonic() < limit:
            time.sleep(0.0005)
        time.sleep(draw.uniform(0, 0.01))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        saves += bool(list(killed.glob(saving)))
    assert saves >= 2  # a save was cut short, and left what it had
    done = accord("train", config, "-o", killed)
    assert done.returncode == 0, done.stderr
    one, other = weights(whole), weights(killed)
    assert list(one) == list(other) == ["ALL", "SEM", "SFT", "SFT+TL"]
    for name in one:
        assert_same_weights(one[name], other[name])
        assert log_of(whole / "train" / name) == log_of(killed / "train" / name)
    assert not list((killed / "train").glob(".*.partial"))


def checkpoint_after_a_kill(config, run):
    """The folder of checkpoints of a row that was killed after its second checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "accord", "train", str(config), "-o", str(run), "--quiet"],
        env=ENVIRONMENT,
    )
    place = run / "train" / ".SFT.partial" / "checkpoints"
    while not list(place.glob("checkpoint-[2-9]*")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    return place


def test_an_incomplete_checkpoint_is_skipped_and_named(prepared, tmp_path):
    config, run = prepared
    whole, broken = copy_of(run, tmp_path / "whole"), copy_of(run, tmp_path / "broken")
    assert accord("train", config, "-o", whole, "--quiet").returncode == 0
    place = checkpoint_after_a_kill(config, broken)
    newest, _ = checkpoints.newest(place)
    (newest / "optimizer.pt").write_bytes(b"half")
    half = place / ".partial" / "checkpoint-99"
    half.mkdir(parents=True, exist_ok=True)
    done = accord("train", config, "-o", broken)
    assert done.returncode == 0, done.stderr
    assert f"train: SFT: {newest.name}: a damaged checkpoint (optimizer.pt has 4 " in done.stderr
    assert "train: SFT: checkpoint-99: an incomplete checkpoint, left by a kill" in done.stderr
    one, other = weights(whole), weights(broken)
    for name in one:
        assert_same_weights(one[name], other[name])


def launched(*args, processes=2, cwd=None):
    """`torchrun -m accord ARGS` on this machine."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
         "--master-port", str(random.randint(20000, 40000)), "-m", "accord", *map(str, args)],
        capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd, timeout=200, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def still(make_model, tmp_path_factory):
    """The same without dropout, which draws other numbers in other processes."""
    folder = tmp_path_factory.mktemp("launch")
    config = example_config(folder, make_model("llama"), train=ONE | EXACT | {"epochs": 1})
    done = accord("run", config, "-o", folder / "run", "--until", "retrieve", "--quiet")
    assert done.returncode == 0, done.stderr
    return config, folder / "run"


@pytest.mark.parametrize("loss", ["triplet", "pair"])
def test_two_processes_train_what_one_does(still, loss, tmp_path):
    """21 examples in batches of 4: in the last one there is nothing for the second process."""
    config, run = still
    alone, together = copy_of(run, tmp_path / "alone"), copy_of(run, tmp_path / "together")
    more = ["--set", f"train.loss={loss}", "--set", "train.micro_batch_size=1", "--quiet"]
    assert accord("train", config, "-o", alone, *more).returncode == 0
    done = launched("train", config, "-o", together, *more)
    assert done.returncode == 0, done.stderr
    one, other = weights(alone), weights(together)
    assert list(one) == list(other)
    for name in one:
        assert_same_weights(one[name], other[name], atol=1e-4)
        pairs = zip(log_of(alone / "train" / name), log_of(together / "train" / name), strict=True)
        for first, second in pairs:
            assert first == pytest.approx(second, abs=1e-4, rel=1e-3)


def test_fsdp_of_two_processes_trains_what_one_does(still, tmp_path):
    config, run = still
    alone, together = copy_of(run, tmp_path / "alone"), copy_of(run, tmp_path / "together")
    more = ["--set", "train.specialists={SEM: [semantic]}", "--quiet"]
    assert accord("train", config, "-o", alone, *more).returncode == 0
    sharded = ["--set", "train.arguments={fsdp: full_shard, fsdp_config: {fsdp_version: 2}}"]
    done = launched("train", config, "-o", together, *more, *sharded)
    assert done.returncode == 0, done.stderr
    one, other = weights(alone), weights(together)
    for name in one:
        assert_same_weights(one[name], other[name], atol=1e-4)


def test_a_launch_says_an_error_once_and_ends(still, tmp_path):
    config, run = still
    copy = copy_of(run, tmp_path / "run")
    done = launched("train", config, "-o", copy, "--set", "train.batch_size=3",
                    "--set", "train.micro_batch_size=3")  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("accord: train.batch_size: 3 is no multiple") == 1


def test_a_whole_run_may_be_launched(still, tmp_path):
    """The second process waits while the first does all but the training."""
    config, _ = still
    done = launched("run", config, "-o", tmp_path / "run", "--until", "train", "--quiet")
    assert done.returncode == 0, done.stderr
    assert len(weights(tmp_path / "run")) == 4


def test_rows_side_by_side_are_refused_in_a_launch(still, tmp_path):
    config, run = still
    copy = copy_of(run, tmp_path / "run")
    done = launched("train", config, "-o", copy, "--set", "train.side_by_side=2")
    assert "accord: train.side_by_side: the processes of a launch work on one row" in done.stderr


def test_a_config_of_bad_options_is_refused_before_any_work(tmp_path, make_model):
    bad = {
        "train.loss=tripplet": "train: no loss `tripplet`; did you mean `triplet`?",
        "train.divergence=js": "train.divergence: `triplet` has no such option",
        "train.distance=l3": "train.distance: found 'l3'",
        "train.lora.rank=3": "train.lora.rank: unknown key",
        "train.lora={targets: [nothing]}": "train.lora.targets: ['nothing'] matches no module",
        "train.report_to=[wandbb]": "train.report_to: `wandbb` is not installed",
        "train.arguments.fdsp=x": "train.arguments.fdsp: transformers has no such argument; did",
        "train.controls.soup=1": "train.controls.soup",
    }
    config = example_config(tmp_path, make_model("llama"))
    for setting, said in bad.items():
        done = accord("check", config, "--set", setting)
        assert done.returncode == 2 and said in done.stdout, (setting, done.stdout, done.stderr)


def test_questions_without_answers_learn_the_base_models_own(make_model, tmp_path):
    """A team with a query log and passages only: the whole method, and no accuracy."""
    lines = (HELPDESK / "qa.jsonl").read_text("utf-8").splitlines()[:60]
    silent = [{k: v for k, v in json.loads(line).items() if k != "answer"} for line in lines]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(q) + "\n" for q in silent))
    config = example_config(
        tmp_path,
        make_model("llama"),
        data={"qa": str(tmp_path / "qa.jsonl"), "variations": None},
        vary={"types": ["how_to_do", "i_we"], "max_per_question": 2},
        train={"loss": "ce", "specialists": {"H": ["how_to_do"], "I": ["i_we"]}},
    )
    without = accord("run", config, "-o", tmp_path / "r", "--quiet")
    assert "train.targets=self" in refusal(without)
    done = accord("run", config, "-o", tmp_path / "r", "--set", "train.targets=self")
    assert done.returncode == 0, done.stderr
    assert "the base model's own answer is the target of 2" in done.stderr
    targets = [json.loads(x) for x in (tmp_path / "r/train/targets.jsonl").read_text().splitlines()]
    answers = [
        json.loads(x) for x in (tmp_path / "r/generate/answers.jsonl").read_text().splitlines()
    ]
    assert {t["model"] for t in targets} == {"B"} and len(targets) > 20
    assert {a["id"] for a in answers}.isdisjoint(t["id"] for t in targets)  # test is not trained on
    rows = json.loads((tmp_path / "r/table.json").read_text())["rows"]
    assert all(row.get("rouge_l") is None and row["rs"] is not None for row in rows)

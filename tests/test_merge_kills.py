"""Merges that are killed, again and again, and two merges at once: real processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from helpers import ENVIRONMENT, PROGRAM, accord, refusal
from merging import model_folder, random_tensors

from accord.errors import RunError
from accord.merge import native, stage
from accord.merge.headers import build_header
from accord.merge.journal import NAME, Journal
from accord.merge.stage import merge
from accord.records import LayerWeights

LAYERS = 10
SHAPES = {"model.embed_tokens.weight": (2000, 1024), "model.norm.weight": (1024,)}
SHAPES |= {
    f"model.layers.{i}.{name}": shape
    for i in range(LAYERS)
    for name, shape in (("q.weight", (1024, 1024)), ("up.weight", (2048, 1024)), ("b", (2048,)))
}
CONFIG = {"num_hidden_layers": LAYERS, "vocab_size": 2000}


def random_model(folder, seed):
    """About 67 MB of random bfloat16, written in a moment."""
    folder.mkdir(parents=True)
    file = folder / "model.safetensors"
    header, infos = build_header(file, [(n, "BF16", s) for n, s in SHAPES.items()])
    size = max(info.stop for info in infos.values()) - len(header)
    rng = np.random.default_rng(seed)
    # Sign and mantissa at random, exponents around 1.
    values = rng.integers(0, 1 << 16, size // 2, np.uint16) & 0x83FF | 0x3C00
    file.write_bytes(header + values.tobytes())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(config, the files of an undisturbed merge, its seconds)."""
    native.fastest()  # compiled before anything is measured
    root = tmp_path_factory.mktemp("kills")
    for seed, name in enumerate(("base", "A", "B")):
        random_model(root / name, seed)
    settings = {"method": "ties", "density": 0.4}
    models = {"A": "./A", "B": "./B"}
    tree = {"base": "./base", "models": models, "layer_weights": 0.4, "merge": settings}
    (root / "merge.yaml").write_text(yaml.safe_dump(tree))
    began = time.monotonic()
    done = accord("merge", root / "merge.yaml", "-o", root / "whole", "--quiet", "--threads", 2)
    assert done.returncode == 0, done.stderr
    return root / "merge.yaml", contents(root / "whole"), time.monotonic() - began


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def start(config, out):
    command = ["merge", str(config), "-o", str(out), "--quiet", "--threads", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command], env=ENVIRONMENT, stderr=subprocess.PIPE
    )


def finished(process):
    """Its status, when it has ended; there must be nothing on stderr."""
    _, said = process.communicate(timeout=120)
    assert said == b""
    return process.returncode


def kill_often(prepared, folder, kills, seed):
    """Kill merges into one folder; returns how often tensors were done, and how often all were."""
    config, whole, seconds = prepared
    out, partial = folder / "out", folder / ".out.partial"
    draw, resumable, complete = random.Random(seed), 0, 0
    for kill in range(kills):
        process = start(config, out)
        time.sleep(seconds * (kill + draw.random()) / kills)
        process.kill()
        status = finished(process)
        assert status in (0, -signal.SIGKILL)
        if out.exists():
            assert contents(out) == whole
            assert not partial.exists()
            complete += 1
            subprocess.run(["rm", "-r", str(out)], check=True)
        else:
            assert status == -signal.SIGKILL
            assert {entry.name for entry in folder.iterdir()} <= {".out.partial"}
            journal = partial / NAME
            resumable += journal.exists() and len(journal.read_bytes().splitlines()) > 1
    assert finished(start(config, out)) == 0
    assert contents(out) == whole
    assert [entry.name for entry in folder.iterdir()] == ["out"]
    return resumable, complete


def test_killed_at_eight_moments_the_bytes_are_the_same(prepared, tmp_path):
    resumable, _ = kill_often(prepared, tmp_path, 8, 0)
    assert resumable > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_a_hundred_moments_the_bytes_are_the_same(prepared, tmp_path):
    resumable, complete = kill_often(prepared, tmp_path, 100, 1)
    assert resumable > 10 and complete > 0


def wait_for_journal(partial, lines=2):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (partial / NAME).exists() and len((partial / NAME).read_bytes().splitlines()) >= lines:
            return
        time.sleep(0.002)
    raise AssertionError("the merge does not begin")


def test_another_merge_into_the_same_folder_is_refused_and_does_not_disturb(prepared, tmp_path):
    config, whole, _ = prepared
    first = start(config, tmp_path / "out")
    wait_for_journal(tmp_path / ".out.partial")
    first.send_signal(signal.SIGSTOP)
    try:
        before = contents(tmp_path / ".out.partial")
        said = refusal(accord("merge", config, "-o", tmp_path / "out"), 1)
        assert "another merge is writing there; wait for it, or give another folder" in said
        assert contents(tmp_path / ".out.partial") == before
    finally:
        first.send_signal(signal.SIGCONT)
    assert finished(first) == 0
    assert contents(tmp_path / "out") == whole


# What cannot be hit by chance


TINY = {"model.embed_tokens.weight": (4, 4), "model.layers.0.up": (5, 4)}


def tiny(root):
    config = {"num_hidden_layers": 1}
    base = model_folder(root / "base", random_tensors(0, TINY), config)
    models = {"X": model_folder(root / "X", random_tensors(1, TINY), config)}
    return base, models, LayerWeights(models=("X",), layers=1, weights=((0.5,),))


@pytest.mark.parametrize("moment", ["remove", "renamed"])
def test_no_merge_comes_in_while_another_is_put_in_place(tmp_path, monkeypatch, moment):
    inputs, tried = tiny(tmp_path / "in"), []
    original = Journal.remove

    def removed(self):
        original(self)
        with pytest.raises(RunError, match="another merge is writing there"):
            Journal(self.folder, "of another plan")
        tried.append(moment)

    def opened_before(self):
        """Its folder is opened in time, and locked too late."""
        real = os.open

        def late(path, *more):
            descriptor = real(path, *more)
            if path == self.folder:
                path.rename(tmp_path / "moved")
            return descriptor

        original(self)
        with monkeypatch.context() as patch:
            patch.setattr("accord.merge.journal.os.open", late)
            patch.setattr("accord.merge.journal.fcntl.flock", lambda *a: None)
            with pytest.raises(RunError, match="another merge is writing there"):
                Journal(self.folder, "of another plan")
        (tmp_path / "moved").rename(self.folder)
        tried.append(moment)

    monkeypatch.setattr(Journal, "remove", removed if moment == "remove" else opened_before)
    merge(*inputs, tmp_path / "out")
    monkeypatch.undo()
    assert tried == [moment]
    merge(*inputs, tmp_path / "again")
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


def interrupted(inputs, out, monkeypatch, **how):
    """A merge that ends before its companions are written."""
    with monkeypatch.context() as patch:

        def stop(*args, **more):
            raise KeyboardInterrupt

        patch.setattr(stage, "write_companions", stop)
        with pytest.raises(KeyboardInterrupt):
            merge(*inputs, out, **how)
    return out.with_name(f".{out.name}.partial")


DAMAGE = {
    "torn": lambda text: text + b'{"tensor": "model.lay',
    "zeros": lambda text: text + bytes(40) + b"\n",
    "no found": lambda text: text + b'{"tensor": "model.layers.0.up"}\n',
    "no tensor": lambda text: text + b"[]\n",
    "empty": lambda text: b"",
    "no JSON": lambda text: b"\xff\n" + text,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_does_not_hurt(tmp_path, monkeypatch, damage):
    inputs = tiny(tmp_path / "in")
    partial = interrupted(inputs, tmp_path / "out", monkeypatch)
    text = (partial / NAME).read_bytes()
    assert len(text.splitlines()) == 1 + len(TINY)
    (partial / NAME).write_bytes(DAMAGE[damage](text))
    merge(*inputs, tmp_path / "out")
    merge(*inputs, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["gone", "cut"])
def test_weights_lost_under_a_journal_are_merged_again(tmp_path, monkeypatch, lost):
    inputs = tiny(tmp_path / "in")
    partial = interrupted(inputs, tmp_path / "out", monkeypatch)
    file = partial / "model.safetensors"
    file.unlink() if lost == "gone" else file.write_bytes(file.read_bytes()[:-8])
    merge(*inputs, tmp_path / "out")
    merge(*inputs, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_merge_of_another_plan_begins_anew(tmp_path, monkeypatch):
    inputs = tiny(tmp_path / "in")
    for k, how in enumerate(
        ({"seed": 1}, {"dtype": "F16"}, {"options": {"density": 0.3}}, {"method": "ties"})
    ):
        partial = interrupted(inputs, tmp_path / "out", monkeypatch, **how)
        (partial / "stale.json").touch()
        merge(*inputs, tmp_path / "out")
        merge(*inputs, tmp_path / f"whole{k}")
        assert contents(tmp_path / "out") == contents(tmp_path / f"whole{k}")
        subprocess.run(["rm", "-r", str(tmp_path / "out")], check=True)


def test_what_was_let_pass_once_is_not_let_pass_again(tmp_path, monkeypatch):
    """A merge with NaN that is taken up without the permission."""
    base, models, table = tiny(tmp_path / "in")
    bad = random_tensors(1, TINY)
    bad["model.layers.0.up"][0, 0] = float("nan")
    models = {"X": model_folder(tmp_path / "in" / "bad", bad, {"num_hidden_layers": 1})}
    inputs = base, models, table
    interrupted(inputs, tmp_path / "out", monkeypatch, allow_nonfinite=True)
    with pytest.raises(RunError, match="holds 1 values that are NaN"):
        merge(*inputs, tmp_path / "out")
    assert {entry.name for entry in tmp_path.iterdir()} == {"in"}
    interrupted(inputs, tmp_path / "out", monkeypatch, allow_nonfinite=True)
    (note,) = merge(*inputs, tmp_path / "out", allow_nonfinite=True)
    assert "1 in" in note  # kept in the journal


def test_a_link_in_place_of_the_unfinished_folder_is_not_followed(tmp_path):
    inputs = tiny(tmp_path / "in")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "mine.txt").write_text("mine")
    (tmp_path / ".out.partial").symlink_to(tmp_path / "else")
    with pytest.raises(RunError, match="nothing was written"):
        merge(*inputs, tmp_path / "out")
    assert contents(tmp_path / "else") == {"mine.txt": b"mine"}
    assert not (tmp_path / "out").exists()

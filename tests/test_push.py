import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HUB = Path(__file__).with_name("hub_upload.py")


@pytest.fixture
def hub(tmp_path):
    """(address, folder) of a hub."""
    root = tmp_path / "hub"
    root.mkdir()
    command = [sys.executable, str(HUB), str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().split()[-1], root
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def model(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"num_hidden_layers": 1}')
    (folder / "model.safetensors").write_bytes(bytes(range(200)) * 50)
    (folder / "README.md").write_text("---\nbase_model: b\n---\n")
    tree = {
        "base": "/home/me/secret/base",
        "models": {"A": "/home/me/cache/models--org--name/snapshots/1"},
        "layer_weights": "layer_weights.json",
        "merge": {"method": "dare_ties"},
    }
    (folder / "merge_config.yaml").write_text(yaml.safe_dump(tree))
    (folder / ".hidden").write_text("x")
    return folder


def push(*arguments, address="http://127.0.0.1:9", token="hf_test"):
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-m", "accord", "push", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_model_arrives_whole_and_without_paths(tmp_path, hub):
    address, root = hub
    done = push(model(tmp_path / "m"), "me/merged", "--private", address=address)
    assert done.returncode == 0, done.stderr
    there = root / "me" / "merged"
    assert (there / ".private").read_text() == "private"
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (there / name).read_bytes() == (tmp_path / "m" / name).read_bytes()
    assert not (there / ".hidden").exists()
    made = yaml.safe_load((there / "merge_config.yaml").read_text())
    assert made["base"] == "base" and made["models"] == {"A": "org/name"}
    assert made["merge"] == {"method": "dare_ties"}


def test_what_the_hub_refuses_is_one_sentence(tmp_path, hub):
    address, root = hub
    folder = model(tmp_path / "m")
    done = push(folder, "me/merged", address=address, token="hf_wrong")
    assert done.returncode == 1 and "the hub answers 401; set HF_TOKEN" in done.stderr
    assert not (root / "me").exists()
    assert push(folder, "me/merged").returncode == 1  # nobody listens there
    done = push(folder, "no spaces allowed", address=address)
    assert done.returncode == 2 and "not a name of the hub" in done.stderr


def test_only_a_model_folder_is_pushed(tmp_path):
    run = model(tmp_path / "run")
    (run / "events.jsonl").touch()
    done = push(run, "me/merged")
    assert done.returncode == 2 and "is a run; its model is" in done.stderr
    (tmp_path / "empty").mkdir()
    done = push(tmp_path / "empty", "me/merged")
    assert done.returncode == 2 and "not a model folder" in done.stderr
    (tmp_path / "empty" / "config.json").write_text("{}")
    done = push(tmp_path / "empty", "me/merged")
    assert done.returncode == 2 and "no weights" in done.stderr

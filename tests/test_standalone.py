"""`accord merge` on a file of the user's: the one a merged model carries makes it again."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import accord
from safetensors.numpy import load_file, save_file

from accord.errors import InputError
from accord.merge.stage import merge
from accord.merging import merge_file
from accord.progress import SILENT
from accord.records import LayerWeights


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def specialists(tiny_llama, tmp_path):
    """Two copies of a tiny model with other numbers in every tensor."""
    folders = {}
    for number, name in enumerate(("HTD", "SEM"), start=1):
        folder = tmp_path / name
        shutil.copytree(tiny_llama, folder)
        tensors = load_file(folder / "model.safetensors")
        changed = {key: value + 0.01 * number for key, value in tensors.items()}
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        folders[name] = folder
    return folders


def layers(folder: Path) -> int:
    return json.loads((folder / "config.json").read_text())["num_hidden_layers"]


def test_the_merge_config_of_a_model_makes_it_again(tiny_llama, specialists, tmp_path):
    count = layers(tiny_llama)
    weights = LayerWeights(models=("HTD", "SEM"), layers=count, weights=((0.3,) * count,) * 2)
    merge(tiny_llama, specialists, weights, tmp_path / "one", seed=5, options={"density": 0.5})
    merge_file(tmp_path / "one" / "merge_config.yaml", tmp_path / "two", None, SILENT)
    assert digest(tmp_path / "two") == digest(tmp_path / "one") != digest(tiny_llama)
    merge_file(tmp_path / "one" / "merge_config.yaml", tmp_path / "three", 6, SILENT)
    assert digest(tmp_path / "three") != digest(tmp_path / "one")


def test_one_number_is_the_weight_of_every_layer(tiny_llama, specialists, tmp_path):
    count = layers(tiny_llama)
    weights = LayerWeights(models=("HTD", "SEM"), layers=count, weights=((0.4,) * count,) * 2)
    merge(tiny_llama, specialists, weights, tmp_path / "one")
    tree = {
        "base": str(tiny_llama),
        "models": {name: name for name in specialists},
        "layer_weights": 0.4,
    }
    (tmp_path / "merge.yaml").write_text(yaml.safe_dump(tree))
    merge_file(tmp_path / "merge.yaml", tmp_path / "two", None, SILENT)
    assert digest(tmp_path / "two") == digest(tmp_path / "one")


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"base": "x", "data": {}}, "is the config of a run"),
        ({"models": {}}, "`base` is missing"),
        ({"base": "./nowhere", "models": {"A": "./a"}}, "base: .*nowhere: no such folder"),
        ({"base": "B", "models": {"A": "./a"}, "layer_weights": "w.json"}, "models.A: .*no such"),
    ],
)
def test_a_bad_merge_config_is_one_sentence(tiny_llama, tmp_path, tree, said):
    tree = {**tree, "base": str(tiny_llama)} if tree.get("base") == "B" else tree
    (tmp_path / "merge.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=said):
        merge_file(tmp_path / "merge.yaml", tmp_path / "out", None, SILENT)
    assert not (tmp_path / "out").exists()


def test_marked_rows_of_a_review_come_back_as_variations(tmp_path):
    qa = tmp_path / "qa.jsonl"
    queries = {"q1": "how do I reset the router", "q2": "how to move the files"}
    qa.write_text("".join(json.dumps({"id": i, "query": q}) + "\n" for i, q in queries.items()))
    out, table = tmp_path / "v.jsonl", tmp_path / "table.csv"
    made = accord("vary", qa, "-o", out, "--types", "how_to_do,question_frame", "--review", table)
    assert made.returncode == 0, made.stderr
    rows = table.read_text("utf-8-sig").splitlines()
    marked = [row.replace('""', '"y"', 1) if '"q1"' in row else row for row in rows]
    table.write_text("\n".join(marked) + "\n", "utf-8")
    taken = tmp_path / "taken.jsonl"
    done = accord("vary", qa, "-o", taken, "--accept", table, "--json")
    kept = [json.loads(line) for line in taken.read_text("utf-8").splitlines()]
    assert json.loads(done.stdout) == {"variations": len(kept)} and kept
    assert {v["original_id"] for v in kept} == {"q1"}
    before = table.read_bytes()
    again = accord("vary", qa, "-o", out, "--review", table)
    assert again.returncode == 2 and "--accept" in again.stderr
    assert table.read_bytes() == before


def test_a_log_gives_no_variations_without_rewordings(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("how to open the lid\n")
    refused = accord("vary", "-o", tmp_path / "v.jsonl")
    assert refused.returncode == 2 and "--from-log" in refused.stderr
    stray = accord("vary", log, "-o", tmp_path / "v.jsonl", "--judge")
    assert stray.returncode == 2 and "semantic" in stray.stderr
    both = accord("vary", log, "--from-log", log, "-o", tmp_path / "v.jsonl")
    assert both.returncode == 2 and "alone" in both.stderr

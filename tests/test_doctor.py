"""The doctor counts what a run will do as the stages themselves would."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from accord.doctor import examine, render

CONFIG = Path(__file__).parents[1] / "examples" / "helpdesk" / "accord.yaml"


def test_the_cost_of_a_run_follows_from_its_config():
    found = examine(CONFIG)
    cost = found["run"]
    # 24 questions; SFT and SFT+TL have none, HTD two, SEM and SPA one variation, ALL three of each.
    assert cost["training_examples"] == 24 * (1 + 1 + 3 + 2 + 2 + 4)
    # Eight rows with their own and, for two in five rewordings, other passages; two of forms.
    assert cost["answers"] == round(8 * 16 * (4 + 3 * 0.4) + 2 * 16 * 4)
    assert 1e8 < cost["parameters"] < 2e8
    assert found["packages"]["torch"] == torch.__version__
    assert all(rate > 0 for rate in found["gflops"].values())
    shown = render(found)
    assert "this run: about" in shown and f"{cost['disk_gb']} GB on disk" in shown


def test_without_a_config_only_the_machine_is_examined():
    command = [sys.executable, "-c", "from accord.cli import main; main()", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["cores"] >= 1 and "run" not in found


def test_the_cost_counts_the_controls(tmp_path):
    folder = tmp_path / "helpdesk"
    shutil.copytree(CONFIG.parent, folder)
    path = folder / "accord.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["train"]["controls"] = {"scaled": 0.5, "soup": 3, "longer": True}
    path.write_text(yaml.safe_dump(tree))
    plain, cost = examine(CONFIG)["run"], examine(path)["run"]
    # Two more seeds of ALL, and as long as HTD, SEM and SPA together; scaling trains nothing.
    more = cost["training_examples"] - plain["training_examples"]
    assert more == 24 * (2 * 4 + 3 + 2 + 2)
    # ALL scaled, SFT scaled, ALL longer, ALL soup and its two other seeds are on disk.
    assert cost["disk_gb"] > plain["disk_gb"] * 14 / 9

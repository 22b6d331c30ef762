"""The same YAML by mergekit and by us. mergekit (LGPL) lives in an environment of its own:

python -m venv oracle && oracle/bin/pip install mergekit==0.1.5
MERGEKIT=oracle/bin/mergekit-yaml pytest tests/reference/test_mergekit.py
"""

import os
import subprocess

import pytest
import torch
import yaml
from conftest import tiny_model
from safetensors.torch import load_file

from accord.merging import merge_file

MERGEKIT = os.environ.get("MERGEKIT")
pytestmark = pytest.mark.skipif(not MERGEKIT, reason="MERGEKIT names no mergekit-yaml")

WEIGHTS = {"a": 0.6, "b": 0.3, "c": [0.1, 0.9]}  # c: a gradient over the layers
DELTAS = ("task_arithmetic", "ties", "dare_ties", "dare_linear", "breadcrumbs")
CASES = {
    "linear": {"merge_method": "linear"},
    "linear, a sum": {"merge_method": "linear", "parameters": {"normalize": False}},
    "task_arithmetic": {"merge_method": "task_arithmetic"},
    "task_arithmetic, a mean": {
        "merge_method": "task_arithmetic",
        "parameters": {"normalize": True, "lambda": 0.7},
    },
    "ties": {"merge_method": "ties", "parameters": {"density": 0.4}},
    "ties, a sum": {
        "merge_method": "ties",
        "parameters": {"density": 0.4, "normalize": False, "int8_mask": True},
    },
    "ties, rescaled": {"merge_method": "ties", "parameters": {"density": 0.4, "rescale": True}},
    "dare_ties": {"merge_method": "dare_ties", "parameters": {"density": 1}},
    "dare_ties, a mean": {
        "merge_method": "dare_ties",
        "parameters": {"density": 1.0, "normalize": True},
    },
    "dare_linear": {"merge_method": "dare_linear", "parameters": {"density": 1.0}},
    "breadcrumbs": {
        "merge_method": "breadcrumbs",
        "parameters": {
            "density": [{"filter": "mlp", "value": 0.5}, {"value": 0.8}],
            "gamma": 0.05,
        },
    },
    "della": {"merge_method": "della", "parameters": {"density": 1.0}},
    "slerp": {"merge_method": "slerp", "parameters": {"t": [0.2, 0.7]}},
    "model_stock": {"merge_method": "model_stock"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A base and three models near it, fp32, two layers."""
    root = tmp_path_factory.mktemp("models")
    generator = torch.Generator().manual_seed(3)
    base = tiny_model("llama", tie_word_embeddings=False)
    origin = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    base.save_pretrained(root / "base")
    for label in WEIGHTS:
        own = {
            name: tensor + 0.02 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in origin.items()
        }
        base.load_state_dict(own)
        base.save_pretrained(root / label)
    return root


def config(models, case):
    method = case["merge_method"]
    tree = {"dtype": "float32", **case, "base_model": str(models / "base")}
    if method == "linear":
        del tree["base_model"]
    labels = ["a"] if method == "slerp" else list(WEIGHTS)
    weighted = method not in ("slerp", "model_stock")
    tree["models"] = [
        {"model": str(models / label)}
        | ({"parameters": {"weight": WEIGHTS[label]}} if weighted else {})
        for label in labels
    ]
    return tree


def load(folder):
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    return tensors


@pytest.mark.parametrize("name", CASES)
def test_equals_mergekit(models, tmp_path, name):
    path = tmp_path / "merge.yaml"
    path.write_text(yaml.safe_dump(config(models, CASES[name])))
    subprocess.run([MERGEKIT, path, tmp_path / "theirs"], check=True, capture_output=True)
    merge_file(path, tmp_path / "ours", None)
    ours, theirs = load(tmp_path / "ours"), load(tmp_path / "theirs")
    assert set(ours) == set(theirs)
    for key, wanted in theirs.items():
        torch.testing.assert_close(ours[key], wanted, rtol=1e-5, atol=1e-6, msg=f"{name}: {key}")


@pytest.mark.parametrize("method", ["ties", "linear", "task_arithmetic", "slerp"])
def test_equals_mergekit_in_bfloat16(models, tmp_path, method):
    """Within the rounding of bf16: mergekit rounds each step, we round once."""
    path = tmp_path / "merge.yaml"
    tree = config(models, CASES[method]) | {"dtype": "bfloat16"}
    if method == "ties":  # at the edge of the kept share rounded deltas are equal
        tree["parameters"] = {"density": 1.0}
    path.write_text(yaml.safe_dump(tree))
    subprocess.run([MERGEKIT, path, tmp_path / "theirs"], check=True, capture_output=True)
    merge_file(path, tmp_path / "ours", None)
    ours, theirs = load(tmp_path / "ours"), load(tmp_path / "theirs")
    for key, wanted in theirs.items():
        assert ours[key].dtype == wanted.dtype == torch.bfloat16
        apart = (ours[key].float() - wanted.float()).abs()
        size = wanted.float().abs() + 0.2  # of what is added up
        # Where votes nearly cancel, rounded sums elect the other sign.
        allowed = 0.01 if method == "ties" else 0
        assert (apart / size > 2**-7).float().mean() <= allowed, key

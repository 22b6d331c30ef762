import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from merging import Plain, blended, mask
from safetensors.torch import load_file, save_file

from accord.errors import InputError, RunError
from accord.merge import companions, engine, preflight, stage
from accord.merge import tensors as tensors_module
from accord.merge.checkpoint import INDEX
from accord.merge.masks import kept_share, mask_key
from accord.merge.methods import dare_ties
from accord.merge.stage import merge
from accord.progress import Progress
from accord.records import LayerWeights, read_records

torch.set_num_threads(1)

LAYERS = 3
LABELS = ("HTD", "SEM", "SPA")
CONFIG = {"num_hidden_layers": LAYERS, "vocab_size": 11}
SHAPES = {
    "model.embed_tokens.weight": (11, 8),
    "model.norm.weight": (8,),
    "lm_head.weight": (11, 8),
} | {f"model.layers.{i}.{n}": s for i in range(LAYERS) for n, s in (("up", (8, 9)), ("b", (9,)))}


def random_model(seed, dtype=torch.float32, shapes=None):
    g = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=g).to(dtype) for n, s in (shapes or SHAPES).items()}


def save(folder, tensors, config=None, shards=1):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {}
    for k in range(shards):
        part = f"model-{k}.safetensors"
        places |= dict.fromkeys(names[k::shards], part)
        save_file({n: tensors[n] for n in names[k::shards]}, folder / part)
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    return folder


def weights(models=LABELS, seed=0, **extra):
    rows = np.random.default_rng(seed).uniform(0.1, 0.45, (len(models), LAYERS)).tolist()
    return LayerWeights(models=models, layers=LAYERS, weights=rows, **extra)


def folders(root, dtypes=(torch.float32,) * 4, shards=1):
    base = save(root / "base", random_model(0, dtypes[0]), shards=shards)
    models = {
        label: save(root / label, random_model(k + 1, dtypes[k + 1]), shards=shards)
        for k, label in enumerate(LABELS)
    }
    return base, models


def result(folder):
    out = {}
    for file in sorted(folder.glob("*.safetensors")):
        out |= load_file(file)
    return out


def contents(folder):
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir())}


def names_in(folder):
    return [entry.name for entry in folder.iterdir()]


def small_pieces(monkeypatch, count):
    monkeypatch.setattr(engine, "PIECE", count)
    monkeypatch.setattr(engine, "PART", 4 * count)
    monkeypatch.setattr(tensors_module, "PIECE", count)


def layer(name):
    return int(name.split(".")[2]) if ".layers." in name else None


def expected(base, models, table, *, density, elect, normalize, seed=0):
    """DARE-TIES again, in plain torch and float64, element by element as the paper writes it."""
    share, out = kept_share(density), {}
    for name, origin in result(base).items():
        d, w = [], []
        for label in sorted(models):
            row = table.weights[table.models.index(label)]
            w.append(sum(row) / len(row) if layer(name) is None else row[layer(name)])
            delta = result(models[label])[name].double() - origin.double()
            kept = mask(mask_key(seed, label, name), 0, origin.numel(), density)
            d.append(delta * torch.from_numpy(kept).reshape(delta.shape) / share)
        d, w = torch.stack(d), torch.tensor(w).double().reshape(-1, *[1] * origin.dim())
        votes = (w * d if elect == "weighted" else d).sum(0)
        sign = torch.where(votes >= 0, 1, -1)
        agree = d.sign() == sign
        change = (w * d * agree).sum(0)
        if normalize:
            total = (w * agree).sum(0)
            change = change / torch.where(total == 0, 1, total)
        out[name] = origin.double() + change
    return out


@pytest.mark.parametrize("density", [1.0, 0.8, 0.3])
@pytest.mark.parametrize("elect", ["unweighted", "weighted"])
@pytest.mark.parametrize("normalize", [False, True])
def test_equals_plain_torch(tmp_path, density, elect, normalize):
    base, models = folders(tmp_path)
    options = {"density": density, "elect": elect, "normalize": normalize}
    merge(base, models, weights(), tmp_path / "out", options=options)
    wanted = expected(base, models, weights(), **options)
    found = result(tmp_path / "out")
    assert set(found) == set(wanted)
    for name in wanted:
        torch.testing.assert_close(found[name].double(), wanted[name], rtol=1e-5, atol=2e-6)


def mergekit_ties(deltas, w):
    """Sign consensus `sum` of mergekit's generalized task arithmetic, on weighted deltas."""
    weighted = torch.stack(deltas) * torch.tensor(w).reshape(-1, 1)
    majority = (weighted.sum(0) >= 0).float() * 2 - 1
    return (weighted * (weighted.sign() == majority)).sum(0)


def test_the_weighted_election_is_that_of_mergekit():
    g = torch.Generator().manual_seed(5)
    deltas = [torch.randn(4000, generator=g) for _ in range(4)]
    deltas[0][:50], deltas[1][:50] = 0.5, -0.5
    deltas[2][:50], deltas[3][:50] = 0, 0
    w = [0.5, 0.5, -0.3, 1.2]  # a tie in the first 50, and a negative weight
    arrays = [d.numpy() for d in deltas]
    found = blended(dare_ties(Plain(arrays, w), density=1.0, elect="weighted"), arrays)
    assert np.allclose(found, mergekit_ties(deltas, w), atol=1e-6)
    assert np.all(found[:50] == 0.25)


def test_by_hand():
    kept = [key for key in range(40) if mask(key, 0, 1, 0.75)[0]]
    lost = [key for key in range(40) if key not in kept]

    def change(*deltas, w=(1.0, 0.5, 0.25), keep=True, **options):
        arrays = [np.array([d], np.float32) for d in deltas]
        blend = dare_ties(Plain(arrays, w[: len(deltas)]), **{"density": 1.0} | options)
        return float(blended(blend, arrays, keys=(kept if keep else lost)[: len(deltas)])[0])

    assert change(2, -3, 4) == 2 + 1  # sum 3, so +: 1*2 + .25*4
    assert change(2, -4, 1) == -2  # sum -1, so -: .5*-4
    assert change(2, -4, 1, elect="weighted") == 2.25  # 2 - 2 + .25, so +
    assert change(1, -1) == 1  # a tie counts as +
    assert change(2, -3, 4, normalize=True) == np.float32(3 / 1.25)
    assert change(0, 0, 0, normalize=True) == 0
    assert change(3, density=0.75) == 4  # rescaled by the inverse of the kept share
    assert change(3, density=0.75, keep=False) == 0


@settings(max_examples=8, deadline=None)
@given(st.permutations(LABELS), st.permutations(LABELS), st.integers(0, 3))
def test_bytes_do_not_depend_on_any_order(tmp_path_factory, labels, rows, seed):
    root = tmp_path_factory.mktemp("order")
    base, models = folders(root)
    table = weights(
        distances=[[0.1 * k] * LAYERS for k in range(3)], outside_layers=(0.1, 0.2, 0.3)
    )
    order = [LABELS.index(label) for label in rows]
    shuffled = LayerWeights(
        models=rows,
        layers=LAYERS,
        weights=[table.weights[k] for k in order],
        distances=[table.distances[k] for k in order],
        outside_layers=[table.outside_layers[k] for k in order],
    )
    merge(base, models, table, root / "a", seed=seed)
    merge(base, {label: models[label] for label in labels}, shuffled, root / "b", seed=seed)
    assert contents(root / "a") == contents(root / "b")


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.floats(0.01, 1),
    st.booleans(),
    st.sampled_from(["weighted", "unweighted"]),
)
def test_zero_weights_give_the_base_bit_for_bit(tmp_path_factory, dtype, density, normalize, elect):
    root = tmp_path_factory.mktemp("zero")
    base, models = folders(root, (dtype,) * 4)
    tensors = random_model(0, dtype)
    tensors["model.norm.weight"][:4] = -0.0
    save_file(tensors, base / "model.safetensors")
    zeros = LayerWeights(models=LABELS, layers=LAYERS, weights=[[0.0] * LAYERS] * 3)
    options = {"density": density, "normalize": normalize, "elect": elect}
    merge(base, models, zeros, root / "out", options=options)
    for name, found in result(root / "out").items():
        assert found.dtype == dtype
        assert torch.equal(found.view(torch.uint8), tensors[name].view(torch.uint8))


@settings(max_examples=6, deadline=None)
@given(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), st.integers(1, 99))
def test_one_model_at_full_weight_is_that_model(tmp_path_factory, dtype, seed):
    root = tmp_path_factory.mktemp("one")
    base = save(root / "base", random_model(0, dtype))
    only = save(root / "only", random_model(seed, dtype))
    table = LayerWeights(models=("X",), layers=LAYERS, weights=[[1.0] * LAYERS])
    merge(base, {"X": only}, table, root / "out", options={"density": 1.0})
    for name, found in result(root / "out").items():
        torch.testing.assert_close(
            found, result(only)[name], rtol=2 * torch.finfo(dtype).eps, atol=1e-6
        )


def test_mixed_dtypes_are_computed_in_float32_and_rounded_once(tmp_path):
    base, models = folders(tmp_path, (torch.bfloat16, torch.float16, torch.float32, torch.bfloat16))
    merge(base, models, weights(), tmp_path / "out")
    options = {"density": 0.8, "elect": "unweighted", "normalize": False}
    wanted = expected(base, models, weights(), **options)
    differing = total = 0
    for name, found in result(tmp_path / "out").items():
        assert found.dtype == torch.bfloat16
        differing += (found != wanted[name].bfloat16()).sum().item()
        total += found.numel()
        torch.testing.assert_close(found.double(), wanted[name], rtol=2**-8, atol=1e-6)
    assert differing <= total / 100  # only where float64 falls on the other side of a midpoint


def test_sharded_inputs_and_small_pieces_change_nothing(tmp_path, monkeypatch):
    base, models = folders(tmp_path / "one")
    merge(base, models, weights(), tmp_path / "a")
    base, models = folders(tmp_path / "many", shards=3)
    small_pieces(monkeypatch, 8)
    merge(base, models, weights(), tmp_path / "b")
    one, many = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert one.pop("merge_config.yaml") != many.pop("merge_config.yaml")  # it names the folders
    assert one == many


def test_seed_and_label_matter(tmp_path):
    base, models = folders(tmp_path)
    merge(base, models, weights(), tmp_path / "a", seed=0)
    merge(base, models, weights(), tmp_path / "b", seed=1)
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a["model.safetensors"] != b["model.safetensors"]


@pytest.mark.parametrize(
    "policy, given_weights, row",
    [
        ("mean", (), None),
        ("base", (), (0.0, 0.0, 0.0)),
        ("base", (0.3, 0.6, 0.9), (0.3, 0.6, 0.9)),
    ],
)
def test_outside_layers(tmp_path, policy, given_weights, row):
    base, models = folders(tmp_path)
    table = weights(outside_layers=given_weights)
    merge(base, models, table, tmp_path / "out", outside_layers=policy, options={"density": 1.0})
    row = row or [sum(r) / LAYERS for r in table.weights]
    origin = result(base)["lm_head.weight"]
    deltas = [result(models[k])["lm_head.weight"] - origin for k in LABELS]
    sign = torch.where(sum(deltas) >= 0, 1, -1)
    wanted = origin + sum(w * d * (d.sign() == sign) for w, d in zip(row, deltas, strict=True))
    torch.testing.assert_close(result(tmp_path / "out")["lm_head.weight"], wanted)
    (written,) = read_records_json(tmp_path / "out" / "layer_weights.json")
    assert written.outside_layers == pytest.approx(tuple(row))


def read_records_json(path):
    line = path.with_suffix(".jsonl")
    line.write_text(json.dumps(json.loads(path.read_text())))
    return read_records(line, LayerWeights)


def test_the_folder_has_all_that_a_model_needs_and_no_more(tmp_path):
    base, models = folders(tmp_path)
    card = "---\nlicense: other\nlicense_name: mine\ntags: [x]\n---\n# Base\n"
    (base / "README.md").write_text(card)
    copied = ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
    copied += ["generation_config.json", "vocab.json", "merges.txt", "tokenizer.model"]
    left = ["modeling_x.py", "tokenizer.py", "tokenizer.bin", "training_args.bin", "optimizer.pt"]
    for file in copied + left:
        (base / file).write_text(file)
    assert merge(base, models, weights(), tmp_path / "out", name="Mine", seed=3) == ()
    out = tmp_path / "out"
    own = ["model.safetensors", "layer_weights.json", "merge_config.yaml", "README.md"]
    assert set(contents(out)) == {*copied, *own, "config.json", "tokenizer.json"}
    front, text = (out / "README.md").read_text().split("---\n")[1:]
    assert yaml.safe_load(front) == {
        "base_model": "base",
        "library_name": "transformers",
        "license": "other",
        "license_name": "mine",
        "tags": ["merge", "accord", "dare_ties"],
    }
    assert "# Mine" in text and "| HTD |" in text and str(tmp_path) not in text
    made = yaml.safe_load((out / "merge_config.yaml").read_text())
    how = {"method": "dare_ties", "density": 0.8, "elect": "unweighted", "normalize": False}
    how |= {"rescale": True, "lambda": 1.0}
    assert made["merge"] == how and made["layer_weights"] == "layer_weights.json"
    assert made["seed"] == 3 and list(made["models"]) == sorted(LABELS)


def test_a_base_without_tokenizer_goes_on_and_says_so(tmp_path):
    base, models = folders(tmp_path)
    (base / "tokenizer.json").unlink()
    (note,) = merge(base, models, weights(), tmp_path / "out")
    assert "no tokenizer files" in note


def test_the_hub_name_of_a_cached_model():
    cached = Path("/c/models--org--some-model/snapshots/0123")
    assert companions.hub_name(cached) == "org/some-model"


def test_a_card_without_readable_front_matter_gives_no_licence(tmp_path):
    for text in ("", "# no front", "---\n: [\n---\n", "---\n- a\n---\n", "---\nlicense: mit\n"):
        (tmp_path / "README.md").write_text(text)
        assert companions.licence(tmp_path) == {}


def test_integer_tensors_are_handed_through(tmp_path):
    base, models = folders(tmp_path)
    for k, folder in enumerate([base, *models.values()]):
        same, other = torch.arange(5), torch.tensor([k == 0, True])
        save_file(
            load_file(folder / "model.safetensors") | {"ids": same, "flag": other},
            folder / "model.safetensors",
        )
    (note,) = merge(base, models, weights(), tmp_path / "out")
    assert "`flag` differs in HTD, SEM, SPA" in note
    assert result(tmp_path / "out")["ids"].tolist() == [0, 1, 2, 3, 4]
    assert result(tmp_path / "out")["flag"].tolist() == [True, True]


def test_a_tied_head_that_a_specialist_saved_is_ignored(tmp_path):
    shapes = {n: s for n, s in SHAPES.items() if n != "lm_head.weight"}
    config = CONFIG | {"tie_word_embeddings": True}
    base = save(tmp_path / "base", random_model(0, shapes=shapes), config)
    own = random_model(1, shapes=shapes)
    own["lm_head.weight"] = own["model.embed_tokens.weight"].clone()
    table = LayerWeights(models=("X",), layers=LAYERS, weights=[[0.5] * LAYERS])
    merge(base, {"X": save(tmp_path / "x", own, config)}, table, tmp_path / "out")
    assert set(result(tmp_path / "out")) == set(shapes)
    own["lm_head.weight"][0, 0] += 1
    with pytest.raises(InputError, match=r"model X: tensor `lm_head.weight` is extra"):
        merge(base, {"X": save(tmp_path / "y", own, config)}, table, tmp_path / "out2")


class Stop(Progress):
    def advance(self, amount=1, note=None):
        if amount:
            raise KeyboardInterrupt


def test_an_interrupted_merge_goes_on_and_a_foreign_one_does_not_matter(tmp_path, monkeypatch):
    base, models = folders(tmp_path / "in")
    out = tmp_path / "runs" / "out"
    with pytest.raises(KeyboardInterrupt):
        merge(base, models, weights(), out, progress=Stop(), threads=1)
    assert names_in(out.parent) == [".out.partial"]
    journal = (out.parent / ".out.partial" / "journal.jsonl").read_text().splitlines()
    assert len(journal) == 2  # the plan, and the tensor that was done
    read = []
    original = engine.Engine._part
    monkeypatch.setattr(
        engine.Engine, "_part", lambda *a: read.append(a[1].tensor.name) or original(*a)
    )
    merge(base, models, weights(), out)
    assert sorted(read) == sorted(set(SHAPES) - {json.loads(journal[1])["tensor"]})
    merge(base, models, weights(), tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")
    other = tmp_path / "other"
    (tmp_path / ".other.partial").mkdir()
    (tmp_path / ".other.partial" / "stale.safetensors").touch()
    other.mkdir()  # an empty target is fine
    merge(base, models, weights(), other)
    assert "stale.safetensors" not in contents(other)
    assert sorted(names_in(tmp_path)) == ["in", "other", "runs", "whole"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("who", ["base", "SEM"])
def test_nan_and_infinity_are_named_and_nothing_is_written(tmp_path, monkeypatch, bad, who):
    small_pieces(monkeypatch, 16)
    base, models = folders(tmp_path / "in")
    tensors = random_model(9)
    tensors["model.layers.1.up"].view(-1)[[3, 40, 50]] = bad
    save_file(tensors, ({"base": base} | models)[who] / "model.safetensors")
    said = rf"{who}.*`model.layers.1.up` holds 3 values that are NaN or infinite"
    with pytest.raises(RunError, match=said):
        merge(base, models, weights(), tmp_path / "out")
    assert names_in(tmp_path) == ["in"]


def test_large_but_finite_values_pass_and_overflow_of_the_dtype_is_an_error(tmp_path):
    base, models = folders(tmp_path, (torch.float16, *(torch.float32,) * 3))
    tensors = random_model(1)
    tensors["model.norm.weight"][:] = 3e38  # their sum overflows, they are finite
    save_file(tensors, models["HTD"] / "model.safetensors")
    with pytest.raises(RunError, match=r"`model.norm.weight`: merged values are too large for F16"):
        merge(base, models, weights(), tmp_path / "out", options={"density": 1.0})


def test_a_full_disk_is_found_before_writing(tmp_path, monkeypatch):
    base, models = folders(tmp_path)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RunError, match="GB are free"):
        merge(base, models, weights(), tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_write_that_fails_is_a_run_error(tmp_path, monkeypatch):
    base, models = folders(tmp_path / "in")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage.CheckpointWriter, "write", full)
    with pytest.raises(RunError, match="No space left on device"):
        merge(base, models, weights(), tmp_path / "out")
    assert names_in(tmp_path) == ["in"]


ROWS = [[0.5] * LAYERS] * 3


@pytest.mark.parametrize(
    "table, said",
    [
        ({"models": ("HTD", "SEM", "ALL")}, "are for ALL, HTD, SEM; .* are HTD, SEM, SPA"),
        ({"models": ("HTD", "SEM", "SEM")}, "are for HTD, SEM, SEM"),
        ({"layers": 4, "weights": [[0.5] * 4] * 3}, "have 4 layers, but the base .* has 3"),
        ({"weights": ROWS[:2]}, r"`weights` has rows of \[3, 3\]; 3 rows of 3"),
        ({"weights": [[0.5] * 2] * 3}, r"`weights` has rows of \[2, 2, 2\]"),
        ({"distances": [[0.5] * 2] * 3}, r"`distances` has rows of"),
        ({"outside_layers": (0.1,)}, "`outside_layers` has 1 values; 3"),
        ({"weights": [[float("nan")] * 3, *ROWS[1:]]}, "a weight of HTD is not a finite"),
        ({"outside_layers": (0.1, float("inf"), 0)}, "a weight of SEM is not a finite"),
    ],
)
def test_bad_weights(tmp_path, table, said):
    base, models = folders(tmp_path)
    table = LayerWeights(**{"models": LABELS, "layers": LAYERS, "weights": ROWS} | table)
    with pytest.raises(InputError, match=said):
        merge(base, models, table, tmp_path / "out")


def without(name):
    return {n: s for n, s in SHAPES.items() if n != name}


@pytest.mark.parametrize(
    "shapes, config, said",
    [
        (without("model.layers.1.up"), {}, "model SEM: tensor `model.layers.1.up` is missing"),
        (SHAPES | {"extra": (2,)}, {}, "model SEM: tensor `extra` is extra"),
        (SHAPES | {"model.layers.1.b": (3, 3)}, {}, r"1.b` has shape \[3, 3\]; the base has \[9\]"),
        (SHAPES, {"num_hidden_layers": 4}, "model SEM has 4 layers; the base has 3"),
        (SHAPES, {"vocab_size": 12}, "model SEM has a vocabulary of 12; the base has 11"),
    ],
)
def test_a_model_unlike_the_base(tmp_path, shapes, config, said):
    base, models = folders(tmp_path)
    models["SEM"] = save(tmp_path / "other", random_model(3, shapes=shapes), CONFIG | config)
    with pytest.raises(InputError, match=said):
        merge(base, models, weights(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_float_against_an_integer_tensor(tmp_path):
    base, models = folders(tmp_path)
    save_file(
        random_model(1) | {"model.norm.weight": torch.arange(8)},
        models["SPA"] / "model.safetensors",
    )
    with pytest.raises(InputError, match=r"`model.norm.weight` has dtype I64; the base has F32"):
        merge(base, models, weights(), tmp_path / "out")


def test_a_base_whose_layers_have_other_names(tmp_path):
    base = save(tmp_path / "base", {"encoder.0.up": torch.ones(2)})
    with pytest.raises(InputError, match=r"base: layers not found.*model\.layers\.0\."):
        merge(base, {"X": base}, weights(("X",)), tmp_path / "out")


def test_other_usage_errors(tmp_path):
    base, models = folders(tmp_path)

    def refused(said, out="out", models=models, **more):
        with pytest.raises(InputError, match=said):
            merge(base, models, weights(), tmp_path / out, **more)

    refused("exists and is not empty", out="base")
    refused("exists and is not empty", out="base/config.json")
    refused("no models", models={})
    refused("no method `dare_tise`; did you mean `dare_ties`", method="dare_tise")
    refused("merge.denisty.*did you mean `density`", options={"denisty": 0.5})
    for density in (0, 1.5, -1, "much", float("nan")):
        refused("density: found", options={"density": density})
    refused("merge.elect: found", options={"elect": "both"})


def test_the_merged_model_loads_and_generates(tmp_path):
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    for seed, name in enumerate(("base", *LABELS)):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(tmp_path / name)
    models = {label: tmp_path / label for label in LABELS}
    merge(tmp_path / "base", models, weights(), tmp_path / "out")
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    answer = loaded.generate(torch.tensor([[3, 4]]), max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > 2


def test_the_merge_path_imports_nothing_heavy():
    code = "import accord.merge.stage, accord.registry, sys; accord.registry.components('methods');"
    code += "print([m for m in ('torch', 'transformers', 'safetensors') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

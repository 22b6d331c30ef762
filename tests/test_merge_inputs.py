"""What a merge reads beside plain checkpoints: adapters against peft, fp8 against torch."""

import json

import numpy as np
import pytest
import torch
from merging import model_folder, random_tensors, tensors_in
from safetensors.torch import load_file, save_file

from accord.errors import InputError
from accord.merge.stage import check, merge
from accord.records import LayerWeights

torch.set_num_threads(1)


def full(labels, layers, weight=1.0):
    """The same weight everywhere."""
    row = (weight,) * layers
    return LayerWeights(models=labels, layers=layers, weights=(row,) * len(labels))


def adapter(base, folder, seed=0, **options):
    """A random adapter of peft, saved; returns the state of the model it is merged into."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    given = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]} | options
    config = LoraConfig(task_type="CAUSAL_LM", **given)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return model.merge_and_unload().state_dict()


def merged(base, models, out, weight=1.0, layers=3, **more):
    table = full(tuple(models), layers, weight)
    notes = merge(base, models, table, out, method="task_arithmetic", **more)
    return tensors_in(out), notes


def assert_merged(base, folder, out, wanted):
    """An adapter at weight 1 is the merged model; it differs from the base somewhere."""
    found, notes = merged(base, {"X": folder}, out)
    origin = tensors_in(base)
    assert notes == () and found.keys() == origin.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-5, atol=1e-5, msg=name)
    moved = {name for name in found if not torch.equal(found[name], origin[name])}
    assert moved
    return moved


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"r": 1},
        {
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"layers.1.mlp.down_proj": 20, "q_proj": 3},
        },
        {"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 12}, "use_rslora": True},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
        {"bias": "lora_only"},
    ],
)
def test_an_adapter_is_what_peft_merges(tiny_llama, tmp_path, options):
    wanted = adapter(tiny_llama, tmp_path / "adapter", **options)
    moved = assert_merged(tiny_llama, tmp_path / "adapter", tmp_path / "out", wanted)
    assert all("_proj" in name for name in moved)


@pytest.mark.parametrize("targets", [["c_attn"], ["c_attn", "c_proj", "c_fc"], ["wte", "c_proj"]])
def test_an_adapter_of_weights_stored_in_out(make_model, tmp_path, targets):
    base = make_model("gpt2")
    wanted = adapter(
        base, tmp_path / "adapter", target_modules=targets, fan_in_fan_out=True, use_rslora=True
    )
    moved = assert_merged(base, tmp_path / "adapter", tmp_path / "out", wanted)
    assert {name.split(".")[-2] for name in moved} == set(targets)


@pytest.mark.parametrize("save_embedding_layers", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_of_embeddings(make_model, tmp_path, tied, save_embedding_layers):
    base = make_model("llama", tie_word_embeddings=tied)
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=5, target_modules=["embed_tokens", "v_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=save_embedding_layers)
    wanted = model.merge_and_unload().state_dict()
    moved = assert_merged(base, tmp_path / "adapter", tmp_path / "out", wanted)
    assert "model.embed_tokens.weight" in moved


def test_modules_saved_whole(make_model, tmp_path):
    base = make_model("llama", tie_word_embeddings=False)
    wanted = adapter(base, tmp_path / "adapter", modules_to_save=["lm_head", "norm"])
    moved = assert_merged(base, tmp_path / "adapter", tmp_path / "out", wanted)
    assert {"lm_head.weight", "model.norm.weight"} < moved


def test_an_adapter_beside_a_whole_model(tiny_llama, make_model, tmp_path):
    """A half of each delta, whichever form the model comes in."""
    wanted = adapter(tiny_llama, tmp_path / "adapter")
    whole = make_model("llama", seed=3)
    models = {"X": tmp_path / "adapter", "Y": whole}
    found, _ = merged(tiny_llama, models, tmp_path / "out", 0.5)
    other = tensors_in(whole)
    for name, tensor in found.items():
        mean = (wanted[name] + other[name]) / 2
        torch.testing.assert_close(tensor, mean, rtol=1e-5, atol=1e-5, msg=name)


def refused(base, models, out, said, layers=3):
    """By `merge` and `check`, and nothing is written."""
    before = sorted(out.parent.rglob("*"))
    for function in (merge, check):
        with pytest.raises(InputError, match=said) as caught:
            function(base, models, full(tuple(models), layers), out)
        assert "\n" not in str(caught.value)
    assert sorted(out.parent.rglob("*")) == before


def changed(folder, **settings):
    """The settings of an adapter, changed on disk."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"peft_type": "LOHA"}, "peft_type LOHA; only LORA"),
        ({"peft_type": None}, "peft_type None"),
        ({"lora_alpha": None}, "lora_alpha: found None; a number is wanted"),
        ({"lora_alpha": float("nan")}, "lora_alpha: found nan; a finite number is wanted"),
        ({"alpha_pattern": {"(": 3}}, r"alpha_pattern: `\(` is no regular expression"),
        ({"alpha_pattern": [3]}, "alpha_pattern: found .3.; a mapping is wanted"),
        ({"use_qalora": True}, "QALoRA"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights.*pissa"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights.*pissa"),
        ({"init_lora_weights": "olora"}, "init_lora_weights.*olora"),
    ],
)
def test_settings_that_cannot_be_merged(tiny_llama, tmp_path, settings, said):
    adapter(tiny_llama, tmp_path / "adapter")
    changed(tmp_path / "adapter", **settings)
    refused(tiny_llama, {"X": tmp_path / "adapter"}, tmp_path / "out", said)


def test_dora_is_refused(tiny_llama, tmp_path):
    adapter(tiny_llama, tmp_path / "adapter", use_dora=True)
    refused(tiny_llama, {"X": tmp_path / "adapter"}, tmp_path / "out", "`use_dora`: DoRA is more")


def test_the_adapter_of_another_base_is_refused(tiny_llama, make_model, tmp_path):
    adapter(tiny_llama, tmp_path / "adapter")
    models = {"X": tmp_path / "adapter"}
    wide = make_model("llama", hidden_size=48)
    refused(
        wide,
        models,
        tmp_path / "a",
        r"the delta of `.*down_proj.weight` is \[32, 64\]; the base has \[48, 64\]",
    )
    refused(make_model("gpt2"), models, tmp_path / "b", "has no tensor `model.layers.0.*trained on")
    short = make_model("llama", num_hidden_layers=2)
    refused(short, models, tmp_path / "c", "has no tensor `model.layers.2", layers=2)


def test_an_adapter_of_which_a_part_is_missing(tiny_llama, tmp_path):
    adapter(tiny_llama, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    for lost in ("lora_B", "lora_A"):
        first = next(name for name in tensors if lost in name)
        save_file({n: t for n, t in tensors.items() if n != first}, file)
        refused(tiny_llama, {"X": tmp_path / "adapter"}, tmp_path / "out", "is there without")
    file.unlink()
    refused(tiny_llama, {"X": tmp_path / "adapter"}, tmp_path / "out", "without `adapter_model")


# fp8


LAYERS = {"num_hidden_layers": 1}
NAME = "model.layers.0.up.weight"


def in_fp8(shape, scale, seed=0, kind=torch.float8_e4m3fn, ending="_scale_inv"):
    """({name: stored}, what it stands for) of a weight and its scales, spread as torch does it."""
    g = torch.Generator().manual_seed(seed)
    stored = (torch.randn(shape, generator=g) * 40).to(kind)
    scales = torch.rand(scale, generator=g) * 0.01 + 0.001
    spread = scales
    if len(scale) == 2 and scale[0] > 1 and scale[1] > 1:
        spread = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
        spread = spread[: shape[0], : shape[1]]
    elif len(scale) == 1 and scale[0] > 1:
        spread = scales[:, None]
    return {NAME: stored, NAME + ending: scales}, stored.float() * spread


LAYOUTS = [
    ((40, 24), ()),
    ((40, 24), (1,)),
    ((40, 24), (1, 1)),
    ((40, 24), (40, 1)),
    ((40, 24), (40,)),
    ((256, 384), (2, 3)),
    ((300, 200), (3, 2)),  # the last blocks are cut
    ((192, 130), (2, 2)),  # a half would be of another size
]


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("shape, scale", LAYOUTS)
def test_fp8_is_read_as_torch_reads_it(tmp_path, shape, scale, declared, kind):
    ending = "_scale_inv" if declared else "_scale"
    tensors, wanted = in_fp8(shape, scale, kind=kind, ending=ending)
    quantised = {"quant_method": "fp8"}
    if declared and len(scale) == 2 and min(scale) > 1:
        quantised["weight_block_size"] = [128, 128]
    config = LAYERS | {"quantization_config": quantised}
    model = model_folder(tmp_path / "X", tensors, config)
    base = model_folder(tmp_path / "base", {NAME: torch.zeros(shape)}, LAYERS)
    found, notes = merged(base, {"X": model}, tmp_path / "out", layers=1)
    assert notes == () and found.keys() == {NAME}
    assert torch.equal(found[NAME], wanted)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_a_base_in_fp8_gives_a_model_in_bf16_that_says_so(tmp_path, key):
    tensors, wanted = in_fp8((256, 256), (2, 2))
    # The norm stays in float32, and stands first in the file.
    tensors |= {"model.layers.0.up.input_scale": torch.ones(1), "model.norm.weight": torch.ones(3)}
    config = LAYERS | {"quantization_config": {"quant_method": "fp8"}, key: "float8", "x": [1]}
    base = model_folder(tmp_path / "base", tensors, config)
    other = {NAME: torch.randn(256, 256), "model.norm.weight": torch.ones(3)}
    models = {"X": model_folder(tmp_path / "X", other, LAYERS)}
    found, _ = merged(base, models, tmp_path / "out", 0.0, layers=1)
    assert found.keys() == {NAME, "model.norm.weight"}
    assert torch.equal(found[NAME], wanted.bfloat16())
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    assert said == LAYERS | {key: "bfloat16", "x": [1]}


@pytest.mark.parametrize(
    "more, said",
    [
        ({}, f"`{NAME}` is in fp8 and has no scales"),
        ({f"{NAME}_scale": torch.ones(7)}, r"of shape \[7\] does not fit"),
        ({f"{NAME}_scale": torch.ones(5, 1)}, r"of shape \[5, 1\] does not fit"),
        ({f"{NAME}_scale": torch.ones(4, 7)}, r"of shape \[4, 7\] does not fit"),
        ({f"{NAME}_scale": torch.ones(4, 6, 1)}, r"does not fit"),
        ({f"{NAME}_scale": torch.ones(1, dtype=torch.int32)}, "has no scales"),
        ({f"{NAME}_scale": torch.ones(1).to(torch.float8_e5m2)}, "fp8"),
    ],
)
def test_fp8_without_scales_that_fit_is_refused(tmp_path, more, said):
    tensors = {NAME: torch.ones(4, 6).to(torch.float8_e4m3fn)} | more
    model = model_folder(tmp_path / "X", tensors, LAYERS)
    base = model_folder(tmp_path / "base", {NAME: torch.zeros(4, 6)}, LAYERS)
    refused(base, {"X": model}, tmp_path / "out", said, layers=1)


@pytest.mark.parametrize("size", ["128", [128], [0, 128], [128, "x"], {"a": 1}, [128, 1.5], 7])
def test_a_block_size_that_is_none_is_refused(tmp_path, size):
    tensors, _ = in_fp8((300, 200), (3, 2))
    quantised = {"quant_method": "fp8", "weight_block_size": size}
    model = model_folder(tmp_path / "X", tensors, LAYERS | {"quantization_config": quantised})
    base = model_folder(tmp_path / "base", {NAME: torch.zeros(300, 200)}, LAYERS)
    refused(base, {"X": model}, tmp_path / "out", "weight_block_size: found", layers=1)


# What is refused by name


SHAPES = {"model.embed_tokens.weight": (8, 4), NAME: (4, 5), "model.norm.weight": (4,)}
CONFIG = LAYERS | {"vocab_size": 8}


@pytest.mark.parametrize(
    "config, file, said",
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, None, r"quantised \(gptq\)"),
        ({"quantization_config": {"quant_method": "awq"}}, None, r"quantised \(awq\)"),
        ({"quantization_config": {"load_in_4bit": True}}, None, r"quantised \(bitsandbytes\)"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, None, r"\(bitsandbytes\)"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, None, "compressed-"),
        ({}, "quantize_config.json", "GPTQ"),
        ({}, "quant_config.json", "AWQ"),
    ],
)
@pytest.mark.parametrize("who", ["base", "X"])
def test_quantised_models_are_refused_by_name(tmp_path, config, file, said, who):
    both = {name: tmp_path / name for name in ("base", "X")}
    for name, folder in both.items():
        more = config if name == who else {}
        model_folder(folder, random_tensors(0, SHAPES), CONFIG | more)
    if file:
        (both[who] / file).write_text("{}")
    refused(both["base"], {"X": both["X"]}, tmp_path / "out", f"{who}: .*{said}", layers=1)


def test_gguf_is_refused_by_name(tmp_path):
    base = model_folder(tmp_path / "base", random_tensors(0, SHAPES), CONFIG)
    folder = tmp_path / "X"
    folder.mkdir()
    (folder / "model-q4.gguf").touch()
    refused(base, {"X": folder}, tmp_path / "out", "X: GGUF", layers=1)
    refused(base, {"X": folder / "model-q4.gguf"}, tmp_path / "out", "GGUF", layers=1)


def test_a_tied_head_that_is_stored_stays_tied(tmp_path):
    """Whatever is dropped: head and embeddings draw the same mask."""
    models = {}
    for k, name in enumerate(("base", "X", "Y")):
        tensors = random_tensors(k, SHAPES)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        models[name] = model_folder(
            tmp_path / name, tensors, CONFIG | {"tie_word_embeddings": True}
        )
    base = models.pop("base")
    for method in ("dare_ties", "dare_linear", "della", "ties", "breadcrumbs"):
        out = tmp_path / method
        merge(base, models, full(("X", "Y"), 1, 0.5), out, method=method, options={"density": 0.5})
        found = tensors_in(out)
        assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])
        assert not torch.equal(found["lm_head.weight"], tensors_in(base)["lm_head.weight"])


def tokenizer(vocabulary, *added):
    return json.dumps(
        {
            "model": {"vocab": vocabulary},
            "added_tokens": [{"content": token, "id": number} for token, number in added],
        }
    )


SAME = tokenizer({"a": 0, "b": 1}, ("<s>", 2))


@pytest.mark.parametrize(
    "other, said",
    [
        (tokenizer({"a": 1, "b": 0}, ("<s>", 2)), "token 'a' is 1 there and 0 in the base"),
        (tokenizer({"a": 0, "b": 1}), "token '<s>' is missing there and 2 in the base"),
        (tokenizer({"a": 0, "b": 1}, ("<s>", 2), ("<t>", 3)), "'<t>' is 3 there and missing"),
        (tokenizer([["b", -1], ["a", -2]]), "token '<s>' is missing there|'a' is 1 there"),
        ("{}", "not a tokenizer that can be compared"),
        ("[" * 100_000, "not a tokenizer that can be compared"),
        (tokenizer([[1, 0], ["a", 0]]), "not a tokenizer that can be compared"),
    ],
)
def test_another_vocabulary_is_refused(tmp_path, other, said):
    base = model_folder(tmp_path / "base", random_tensors(0, SHAPES), CONFIG)
    model = model_folder(tmp_path / "X", random_tensors(1, SHAPES), CONFIG)
    (base / "tokenizer.json").write_text(SAME)
    (model / "tokenizer.json").write_text(other)
    refused(base, {"X": model}, tmp_path / "out", said, layers=1)


def test_a_tokenizer_written_in_another_way_is_the_same(tmp_path):
    base = model_folder(tmp_path / "base", random_tensors(0, SHAPES), CONFIG)
    model = model_folder(tmp_path / "X", random_tensors(1, SHAPES), CONFIG)
    (base / "tokenizer.json").write_text(SAME)
    (model / "tokenizer.json").write_text(json.dumps(json.loads(SAME), indent=2))
    found, _ = merged(base, {"X": model}, tmp_path / "out", layers=1)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == SAME
    assert np.isfinite(found[NAME].numpy()).all()

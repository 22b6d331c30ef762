import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from accord.errors import InputError, RunError
from accord.merge.blend import F32
from accord.merge.checkpoint import (
    INDEX,
    count_layers,
    layer_of,
    open_checkpoint,
)
from accord.merge.writer import CheckpointWriter


def tensors():
    rng = np.random.default_rng(0)
    return {
        "model.embed_tokens.weight": rng.normal(size=(7, 4)).astype(np.float32),
        "model.layers.0.a": rng.normal(size=(3, 5)).astype(np.float16),
        "model.layers.1.a": rng.normal(size=(3, 5)).astype(ml_dtypes.bfloat16),
        "model.layers.10.scalar": np.array(2.5, np.float32),
        "model.none": np.zeros((0, 4), np.float32),
        "model.ids": np.arange(5),
        "model.flag": np.array([True, False, True]),
    }


def model(folder, config=None, **files):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or {"num_hidden_layers": 2}))
    for name, data in (files or {"model": tensors()}).items():
        save_file(data, folder / f"{name}.safetensors", metadata={"format": "pt"})
    return folder


def header_file(folder, header, data=b""):
    model(folder)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder


def f32(shape, start, stop):
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}


def test_reads_what_safetensors_wrote(tmp_path):
    opened = open_checkpoint(model(tmp_path))
    for name, wanted in tensors().items():
        info = opened.tensors[name]
        assert info.shape == wanted.shape
        if info.floating:
            assert np.array_equal(opened.read(name), wanted.astype(np.float32))
            assert opened.read(name).dtype == np.float32
        else:
            assert opened.raw(name, 0, info.size).tobytes() == wanted.tobytes()
    flat, row = tensors()["model.embed_tokens.weight"].ravel(), np.empty(36, np.uint8)
    assert opened.fill("model.embed_tokens.weight", 5, 9, row) == F32
    assert np.array_equal(row.view(np.float32), flat[5:14])
    opened.close()


@pytest.mark.parametrize("shard_size", [10**9, 100, 1])
def test_the_writer_writes_what_safetensors_reads(tmp_path, shard_size):
    source = open_checkpoint(model(tmp_path / "in"))
    (tmp_path / "out").mkdir()
    specs = {name: (info.dtype, info.shape) for name, info in source.tensors.items()}
    with CheckpointWriter(tmp_path / "out", specs, shard_size) as writer:
        for name, info in reversed(writer.tensors.items()):  # pieces may come in any order
            for at in range(0, info.size, 4):
                writer.write(name, at, source.raw(name, at, min(4, info.size - at)).data)
    with CheckpointWriter(tmp_path / "out", specs, shard_size):
        pass  # opened again, it changes nothing
    found = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        found |= load_file(file)
        with safe_open(file, "np") as opened:
            assert opened.metadata() == {"format": "pt"}
    for name, wanted in tensors().items():
        assert found[name].dtype == wanted.dtype
        assert found[name].tobytes() == wanted.tobytes()
    index = tmp_path / "out" / INDEX
    assert index.exists() == (shard_size < 10**9)
    (tmp_path / "out" / "config.json").write_text("{}")
    assert set(open_checkpoint(tmp_path / "out").tensors) == set(tensors())
    if index.exists():
        total = sum(t.nbytes for t in tensors().values())
        assert json.loads(index.read_text())["metadata"]["total_size"] == total


def test_shards_are_read_through_their_index(tmp_path):
    names = list(tensors())
    one = {n: tensors()[n] for n in names[:3]}
    two = {n: tensors()[n] for n in names[3:]}
    model(tmp_path, **{"model-1": one, "model-2": two})
    places = dict.fromkeys(one, "model-1.safetensors") | dict.fromkeys(two, "model-2.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    opened = open_checkpoint(tmp_path)
    assert set(opened.tensors) == set(names)
    assert opened.tensors["model.ids"].file.name == "model-2.safetensors"


@pytest.mark.parametrize(
    "places, said",
    [
        ({"a": "gone.safetensors"}, "gone.safetensors, which is not in the folder"),
        ({"a": "../model.safetensors"}, "not in the folder"),
        ({"nothing": "part.safetensors"}, "tensor `nothing` is not in part.safetensors"),
        ({}, "`weight_map` is missing"),
    ],
)
def test_a_wrong_index_is_an_input_error(tmp_path, places, said):
    model(tmp_path, part=tensors())
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(InputError, match=said):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "header, data, said",
    [
        (b"{not json", b"", "header is not JSON"),
        (b"\xff\xff\xff", b"", "header is not JSON"),
        ([1], b"", "not a JSON object"),
        ({"t": f32([2], 0, 8)}, b"1234", "`t` ends at byte .* out of range.*truncated"),
        ({"t": f32([3], 0, 8)}, b"12345678", r"`t`: F32 of shape \[3\] takes 12 bytes"),
        ({"t": f32([1], 4, 8)}, b"12345678", "`t` does not begin where"),
        ({"t": f32([1], 0, 4), "u": f32([2], 0, 8)}, b"12345678", "`u` does not begin where"),
        ({"t": f32([-1], 0, -4)}, b"", "`t`: shape and data_offsets must be whole numbers"),
        ({"t": {"dtype": "F32"}}, b"", "`t`: dtype, shape and two data_offsets are wanted"),
        ({"t": 3}, b"", "`t`: dtype, shape"),
        ({"t": f32([1], 0, 8) | {"dtype": "F64"}}, b"12345678", "`t`: dtype F64 is not supp"),
        ({"t": f32([1], 0, 4) | {"dtype": ["F32"]}}, b"1234", "`t`: dtype .* is not supp"),
    ],
)
def test_a_damaged_file_is_an_input_error(tmp_path, header, data, said):
    with pytest.raises(InputError, match=f"model.safetensors: .*{said}"):
        open_checkpoint(header_file(tmp_path, header, data))


@pytest.mark.parametrize("kept", [0, 5, 60])
def test_a_file_cut_inside_its_header_is_an_input_error(tmp_path, kept):
    file = model(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"model\.safetensors: truncated"):
        open_checkpoint(tmp_path)


def test_a_file_that_shrinks_after_opening_is_a_run_error(tmp_path):
    opened = open_checkpoint(model(tmp_path))
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(RunError, match="changed while it was read"):
        for name, info in opened.tensors.items():
            opened.raw(name, 0, info.size)


def test_folders_that_are_no_models_are_refused_by_name(tmp_path):
    def refused(folder, said):
        with pytest.raises(InputError, match=said):
            open_checkpoint(folder)

    def empty(name, *files, config=None):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config or {}))
        for file in files:
            (folder / file).touch()
        return folder

    refused(tmp_path / "gone", "no such model folder")
    refused(tmp_path, "no config.json")
    refused(empty("a"), "no weights")
    refused(empty("b", "pytorch_model.bin"), "pickled weights are never read; convert .*safetens")
    refused(empty("c", "m.gguf"), "GGUF")
    refused(tmp_path / "m.gguf", "GGUF")
    refused(empty("d", "adapter_model.safetensors"), "an adapter")
    refused(empty("e", "other.safetensors"), "found only other.safetensors")
    for method in ("gptq", "awq", "bitsandbytes"):
        config = {"quantization_config": {"quant_method": method}}
        refused(empty(method, config=config), rf"quantised \({method}\)")
    refused(empty("f", "quantize_config.json"), "GPTQ")
    (empty("g") / "config.json").write_text("{")
    refused(tmp_path / "g", r"config\.json: not valid JSON")
    (empty("h") / "config.json").write_text("[]")
    refused(tmp_path / "h", "a JSON object is wanted")


@pytest.mark.parametrize(
    "config, layers",
    [
        ({"num_hidden_layers": 30}, 30),
        ({"n_layer": 12}, 12),
        ({"text_config": {"num_hidden_layers": 48}}, 48),
    ],
)
def test_counts_layers(tmp_path, config, layers):
    assert count_layers(model(tmp_path, config)) == layers


def test_says_where_layers_were_looked_for(tmp_path):
    with pytest.raises(
        InputError, match=r"layers not found.*num_hidden_layers.*n_layer.*text_conf"
    ):
        count_layers(model(tmp_path, {"depth": 3}))


@pytest.mark.parametrize(
    "name, layer",
    [
        ("model.layers.12.mlp.up_proj.weight", 12),
        ("transformer.h.3.attn.c_attn.bias", 3),
        ("h.3.attn.c_attn.bias", 3),
        ("gpt_neox.layers.0.attention.dense.weight", 0),
        ("model.layers.2.mlp.experts.7.w1.weight", 2),
        ("language_model.model.layers.5.mlp.up_proj.weight", 5),
        ("model.embed_tokens.weight", None),
        ("model.norm.weight", None),
        ("lm_head.weight", None),
        ("vision_tower.vision_model.encoder.layers.5.mlp.fc1.weight", None),
        ("model.layers.30.mlp.up_proj.weight", None),
    ],
)
def test_layer_of(name, layer):
    assert layer_of(name, 30) == layer

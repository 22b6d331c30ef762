"""Whatever the files hold: one of our errors or a merge, in a moment, nothing written elsewhere."""

import copy
import json
import os
import random
import time

import pytest
import torch
import yaml
from merging import model_folder, random_tensors
from safetensors.torch import load_file, save_file

from accord.errors import InputError, RunError
from accord.merge.checkpoint import INDEX, open_checkpoint
from accord.merging import check_merge, merge_file

torch.set_num_threads(1)

SHAPES = {"model.embed_tokens.weight": (6, 4), "model.norm.weight": (4,)}
SHAPES |= {f"model.layers.{i}.up.weight": (5, 4) for i in range(2)}
CONFIG = {"num_hidden_layers": 2, "vocab_size": 6, "text_config": {"vocab_size": 6}}
SECONDS = 5  # for one case; most take a hundredth of one


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


NUMBERS = [-1, 0, 1, 2, 3, 2**31, 2**63 - 1, 2**63, 2**64 + 1, 10**30, 1e308, 1e39, -0.0, 0.5]
NUMBERS += [float("nan"), float("inf"), -float("inf"), 16**5000]
TEXTS = ["", " ", "a", "../X", "/etc/passwd", "..", ".", "/", "\0", "a\0b", "x" * 300, "x" * 5000]
TEXTS += ["é", "\ud800", "²", "1²2", "model.layers.99999999999999999999.x", "~nobody-at-all/x"]
TEXTS += [f"model.layers.{'9' * 5000}.up.weight", "F32", "BF16", "F64", "F8_E4M3", "I64", "a\nb"]
TEXTS += ["model.safetensors", "gptq", "fp8", "base", "ties", "slerp", "linear", "nan", "package:x"]
TEXTS += ["LORA", "(", "(a+)+$", "lm_head.weight", "+", "a+b", "./X", "model-0.safetensors"]
OTHERS = [None, True, False, [], {}, [[]], {"a": {"b": [1]}}, [1, 2], [128, 128], deep(60)]
OTHERS += [[{"filter": "up", "value": 0.5}, {"value": [0, 1]}], {"filter": "x", "value": {}}]
KEYS = ["dtype", "shape", "data_offsets", "weight_map", "metadata", "__metadata__", "models", "x"]
KEYS += [
    "num_hidden_layers",
    "n_layer",
    "quantization_config",
    "quant_method",
    "parameters",
    "seed",
]
KEYS += ["vocab_size", "weight", "density", "lambda", "normalize", "method", "slices", "name", "t"]


def junk(draw):
    value = draw.choice(draw.choice((NUMBERS, TEXTS, OTHERS)))
    return copy.deepcopy(value)


def nodes(tree, found=None):
    """All (container, key) of a tree."""
    found = [] if found is None else found
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        found.append((tree, key))
        if isinstance(tree[key], (dict, list)):
            nodes(tree[key], found)
    return found


def mutated(tree, draw):
    """A tree with one to three things wrong."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.randint(1, 3)):
        places = nodes(tree)
        if not places:
            break
        holder, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind <= 2:
            holder[key] = junk(draw)
        elif kind == 3:
            del holder[key]
        elif isinstance(holder, dict):
            new = draw.choice(KEYS + TEXTS + list(holder))
            holder[new] = holder.pop(key) if kind == 4 else junk(draw)
        else:
            holder.insert(key, junk(draw))
    return tree


PIECES = [
    b"[" * 100_000,
    b"{" * 3000,
    b'{"a":' * 50_000,
    b"9" * 5000,
    b"\0",
    b"\xff\xfe",
    b'"',
    b",",
    b"}",
]
PIECES += [b"NaN", b"-Infinity", b"1e999", b"\\ud800", b"null", b" " * 5000]


def spoilt(text, draw):
    """Bytes with one to three things wrong."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(text) + 1)
        to = min(len(text), at + draw.randrange(1, 30))
        kind = draw.randrange(5)
        if kind == 0:
            text = text[:at] + bytes([draw.randrange(256)]) + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + text[to:]
        elif kind == 2:
            text = text[:to] + text[at:]  # twice
        elif kind == 3:
            text = text[:at] + draw.choice(PIECES) + text[at:]
        else:
            text = text[:at]
    return text


def as_json(tree, draw):
    text = json.dumps(tree).encode() if 16**5000 not in flat(tree) else hexless(tree)
    if draw.random() < 0.2:
        text = text.replace(b"{", b'{"dtype": 1, "weight_map": {}, "base": 3,', 1)  # given twice
    return spoilt(text, draw) if draw.random() < 0.3 else text


def flat(tree):
    return [holder[key] for holder, key in nodes(tree)]


def hexless(tree):
    """JSON with a number of 5000 digits, which Python neither writes nor reads."""
    for holder, key in nodes(tree):
        if holder[key] == 16**5000:
            holder[key] = "@"
    return json.dumps(tree).replace('"@"', "7" * 5000).encode()


def as_yaml(tree, draw):
    for holder, key in nodes(tree):
        if holder[key] == 16**5000:
            holder[key] = "@"
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)
    text = text.replace("'@'", draw.choice(["7" * 5000, "0x" + "f" * 5000])).encode(
        errors="replace"
    )
    if draw.random() < 0.3:
        text = (
            draw.choice(YAML_PIECES) + b"\n" + text if draw.random() < 0.5 else spoilt(text, draw)
        )
    return text


LAUGHS = b"".join(
    b"l%d: &l%d [%s]\n" % (n, n, b",".join([b"*l%d" % (n - 1)] * 9) if n else b"1")
    for n in range(12)
)
YAML_PIECES = [LAUGHS, b"a: &a [*a]", b"a: &a {b: *a}", b"seed: 2001-99-99", b"x: !!timestamp foo"]
YAML_PIECES += [
    b"x: !!bool foo",
    b"x: !!int ''",
    b"x: !!python/object:os.system [a]",
    b"? [a]\n: b",
]
YAML_PIECES += [
    b"? {a: b}\n: c",
    b"5: 6",
    b"2020-01-01: x",
    b"x: " + b"[" * 5000,
    b"<<: 3",
    b"%YAML 9",
]
YAML_PIECES += [
    b"merge_method: [a]",
    b"merge_method: {a: b}",
    b"seed: 0x" + b"f" * 5000,
    b"---\n---",
]
YAML_PIECES += [
    b"base: !!binary x",
    b"x: !!float y",
    b"*a",
    b"&a",
    b"- a",
    b"\t",
    b"models: {a: \0}",
]

OURS = {
    "base": "./base",
    "models": {"A": "./A", "B": "./B"},
    "layer_weights": 0.4,
    "merge": {"method": "ties", "density": 0.5, "elect": "weighted", "lambda": 1.0, "dtype": "F32"},
    "seed": 3,
}
KIT = {
    "merge_method": "dare_ties",
    "base_model": "./base",
    "models": [
        {"model": "./A", "parameters": {"weight": [0.1, 0.5], "density": 0.5}, "name": "A"},
        {"model": "./B", "parameters": {"weight": [{"filter": "up", "value": 1}, {"value": 0.5}]}},
    ],
    "parameters": {"normalize": True, "lambda": 1.1, "int8_mask": True},
    "dtype": "bfloat16",
    "tokenizer_source": "base",
    "random_seed": 5,
}
SLICES = {
    "merge_method": "slerp",
    "base_model": "./base",
    "slices": [
        {
            "sources": [
                {"model": "./base", "layer_range": [0, 2]},
                {"model": "./A", "layer_range": [0, 2]},
            ]
        }
    ],
    "parameters": {"t": [{"filter": "up", "value": [0, 0.5, 1]}, {"value": 0.3}]},
}
WEIGHTS = {
    "models": ["A", "B"],
    "layers": 2,
    "weights": [[0.1, 0.2], [0.3, 0.4]],
    "outside_layers": [0, 1],
}
TOKENS = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"content": "<s>", "id": 2}]}
ADAPTER = {"peft_type": "LORA", "lora_alpha": 4, "r": 2, "alpha_pattern": {"up": 3}}


class World:
    """Folders of models; `put` spoils a file until `restore`."""

    def __init__(self, root):
        self.root, self.saved = root, {}
        for seed, name in enumerate(("base", "A", "B")):
            tensors = random_tensors(seed, SHAPES)
            model_folder(root / name, tensors, CONFIG, shards=2 if name == "B" else 1)
            (root / name / "tokenizer.json").write_text(json.dumps(TOKENS))
        fp8 = random_tensors(7, SHAPES) | {"model.ids": torch.arange(3)}
        name = "model.layers.0.up.weight"
        fp8 |= {name: fp8[name].to(torch.float8_e4m3fn), f"{name}_scale_inv": torch.ones(1, 1)}
        quantised = {"quant_method": "fp8", "weight_block_size": [128, 128]}
        model_folder(root / "fp8", fp8, CONFIG | {"quantization_config": quantised})
        (root / "lora").mkdir()
        factors = {
            f"base_model.model.model.layers.0.up.lora_{side}.weight": torch.randn(shape)
            for side, shape in (("A", (2, 4)), ("B", (5, 2)))
        }
        save_file(factors, root / "lora" / "adapter_model.safetensors")
        self.write("lora/adapter_config.json", json.dumps(ADAPTER).encode())
        self.write("merge.yaml", yaml.safe_dump(OURS).encode())
        self.write("layer_weights.json", json.dumps(WEIGHTS).encode())
        self.out = root / "made" / "out"
        self.out.parent.mkdir()

    def write(self, name, content):
        (self.root / name).write_bytes(content)

    def put(self, name, content):
        self.saved[name] = (self.root / name).read_bytes()
        self.write(name, content)

    def restore(self):
        for name, content in self.saved.items():
            self.write(name, content)
        self.saved.clear()

    def state(self):
        """All paths beside the target, with what tells that they were written to."""
        return {
            str(path): (path.lstat().st_size, path.lstat().st_mtime_ns if path.is_file() else 0)
            for path in self.root.parent.rglob("*")
            if self.out not in (path, *path.parents)
        }

    def merge(self, what):
        """Merge; the error's text, or "" for a model that can be opened."""
        before, began, said = self.state(), time.monotonic(), ""
        try:
            check_merge(self.root / "merge.yaml", None, self.out)
            merge_file(self.root / "merge.yaml", self.out, None, kernel="numpy", threads=1)
        except (InputError, RunError) as error:
            said = str(error)
            assert said and said[0] != "'", what
            assert not self.out.exists(), what
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}"[:600]) from error
        assert time.monotonic() - began < SECONDS, what
        assert self.state() == before, what
        if self.out.exists():
            open_checkpoint(self.out).close()
            for file in self.out.glob("*.safetensors"):
                load_file(file)
            for path in self.out.iterdir():
                path.unlink()
            self.out.rmdir()
        return said


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "inner" / "world")


def of_lora(draw):
    return OURS | {"models": {"A": "./lora", "B": "./B"}} if draw.random() < 0.5 else OURS


def with_header(content, header):
    size = int.from_bytes(content[:8], "little")
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def spoil_header(world, draw):
    name = draw.choice(
        (
            "base/model.safetensors",
            "A/model.safetensors",
            "B/model-0.safetensors",
            "lora/adapter_model.safetensors",
            "fp8/model.safetensors",
        )
    )
    models = {"A": "./lora" if "lora" in name else "./A", "B": "./fp8" if "fp8" in name else "./B"}
    if "fp8" in name and draw.random() < 0.5:
        models = {"A": "./A"}
    changed = {"base": "./fp8"} if "fp8" in name and draw.random() < 0.5 else {}
    world.put("merge.yaml", yaml.safe_dump(OURS | {"models": models} | changed).encode())
    content = (world.root / name).read_bytes()
    if draw.random() < 0.15:
        return world.put(name, spoilt(content, draw))
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    world.put(name, with_header(content, as_json(mutated(header, draw), draw)))
    return None


def spoil_index(world, draw):
    index = json.loads((world.root / "B" / INDEX).read_text())
    world.put(f"B/{INDEX}", as_json(mutated(index, draw), draw))


def spoil_json(world, draw):
    name = draw.choice(
        (
            "base/config.json",
            "A/config.json",
            "fp8/config.json",
            "layer_weights.json",
            "A/tokenizer.json",
            "base/tokenizer.json",
            "lora/adapter_config.json",
        )
    )
    tree = copy.deepcopy(OURS) | {"layer_weights": "layer_weights.json"}
    for part in ("lora", "fp8"):
        if name.startswith(part):
            tree["models"]["A"] = f"./{part}"
    world.put("merge.yaml", yaml.safe_dump(tree).encode())
    world.put(name, as_json(mutated(json.loads((world.root / name).read_text()), draw), draw))


def spoil_yaml(world, draw):
    world.put("merge.yaml", as_yaml(mutated(draw.choice((OURS, of_lora(draw))), draw), draw))


def spoil_mergekit(world, draw):
    world.put("merge.yaml", as_yaml(mutated(draw.choice((KIT, SLICES)), draw), draw))


SPOILERS = {
    "header": (spoil_header, 500),
    "index": (spoil_index, 200),
    "json": (spoil_json, 300),
    "yaml": (spoil_yaml, 250),
    "mergekit": (spoil_mergekit, 350),
}


def fuzz(world, kind, cases, first):
    """Both must happen: errors, and changes that do no harm."""
    spoil, ended = SPOILERS[kind][0], []
    for case in range(first, first + cases):
        spoil(world, random.Random(f"{kind} {case}"))
        ended.append(world.merge(f"{kind} {case}"))
        world.restore()
    assert world.merge("restored") == ""
    assert 0 < ended.count("") < len(ended)
    assert len(set(ended)) > cases / 20


@pytest.mark.parametrize("kind", SPOILERS)
def test_spoilt_files_end_in_one_of_our_errors(world, kind):
    fuzz(world, kind, SPOILERS[kind][1], 0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", SPOILERS)
def test_thousands_of_spoilt_files_end_in_one_of_our_errors(world, kind):
    fuzz(world, kind, 1000, 10_000)


def test_what_is_mutated_can_be_merged(world):
    for tree in (OURS, OURS | {"layer_weights": "layer_weights.json"}, KIT, SLICES):
        world.put("merge.yaml", yaml.safe_dump(tree).encode())
        assert world.merge("whole") == ""
    on_base = KIT | {"models": [{"model": "./base+./lora", "parameters": {"weight": 1}}]}
    world.put("merge.yaml", yaml.safe_dump(on_base).encode())
    assert world.merge("an adapter in mergekit's way") == ""
    for model in ("lora", "fp8"):
        tree = OURS | {"models": {"A": f"./{model}"}, "base": "./base"}
        if model == "fp8":
            tree["base"] = "./fp8"
        world.put("merge.yaml", yaml.safe_dump(tree).encode())
        assert world.merge("whole") == ""


@pytest.mark.parametrize(
    "shard",
    [
        "../A/model.safetensors",
        "{root}/A/model.safetensors",
        "./model-0.safetensors",
        "model-0.safetensors/",
        *("..", ".", "", "\0", "x" * 5000, "config.json", 5, None, ["model-0.safetensors"]),
    ],
)
def test_shards_are_files_of_the_folder_and_nothing_else(world, shard):
    name = shard.format(root=world.root) if isinstance(shard, str) else shard
    places = dict.fromkeys(SHAPES, "model-0.safetensors") | {"model.norm.weight": name}
    world.put(f"B/{INDEX}", json.dumps({"weight_map": places}).encode())
    assert "names the shard" in world.merge(shard)


def test_a_shard_may_be_a_link_as_in_the_hubs_cache_but_not_to_nothing(world):
    folder = world.root / "B"
    (folder / "model-0.safetensors").rename(world.root / "blob")
    (folder / "model-0.safetensors").symlink_to(world.root / "blob")
    assert world.merge("a link") == ""
    for target in (world.root / "gone", folder / "model-0.safetensors", folder):
        (folder / "model-0.safetensors").unlink()
        (folder / "model-0.safetensors").symlink_to(target)
        assert "model-0.safetensors" in world.merge(str(target))


def test_a_target_that_is_a_link_to_a_new_folder(world, tmp_path):
    """What is written is where the link leads, and the link stays."""
    (world.root / "link").symlink_to(world.out)
    merge_file(world.root / "merge.yaml", world.root / "link", None)
    assert (world.root / "link").is_symlink() and (world.out / "model.safetensors").is_file()
    assert [path.name for path in world.out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("label", ["../../evil", "/tmp/evil", "a/b", "..", "", "a\nb", "`x`", "é"])
def test_a_label_is_no_path(world, label):
    tree = OURS | {"models": {label: "./A", "B": "./B"}}
    world.put("merge.yaml", yaml.safe_dump(tree).encode())
    assert world.merge(label) == ""


@pytest.mark.parametrize("text", YAML_PIECES)
@pytest.mark.parametrize("tree", [OURS, KIT])
def test_strange_yaml(world, text, tree):
    world.put("merge.yaml", text + b"\n" + yaml.safe_dump(tree).encode())
    said = world.merge(text[:40])
    assert said == "" or "merge.yaml" in said


DEEP = b"[" * 200_000 + b"]" * 200_000


@pytest.mark.parametrize(
    "file",
    [
        "base/config.json",
        "A/config.json",
        "lora/adapter_config.json",
        "layer_weights.json",
        f"B/{INDEX}",
        "merge.yaml",
    ],
)
@pytest.mark.parametrize("text", [DEEP, b"9" * 5000, b"\xff", b"", b"null", b'{"a": ' * 90_000])
def test_files_that_are_nested_too_deeply_or_no_text(world, file, text):
    tree = OURS | {"models": {"A": "./lora", "B": "./B"}, "layer_weights": "layer_weights.json"}
    if file == "A/config.json":
        tree["models"] = {"A": "./A", "B": "./B"}
    world.put("merge.yaml", yaml.safe_dump(tree).encode())
    world.put(file, text)
    assert os.path.basename(file) in world.merge(file)  # noqa: PTH119


@pytest.mark.parametrize(
    "name", ["²", "1²2", "٣", "9" * 5000, f"model.layers.{'9' * 5000}.x", "\ud800"]
)
def test_strange_names_of_tensors(world, name):
    text = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    for model in ("base", "A", "B"):
        (world.root / model / "model.safetensors").write_bytes(
            len(text).to_bytes(8, "little") + text + bytes(4)
        )
    said = world.merge(name)
    assert said == "" or "layers not found" in said


@pytest.mark.parametrize("layers", [10**9, 10**12, 2**70])
def test_more_layers_than_any_model_has(world, layers):
    world.put("base/config.json", json.dumps(CONFIG | {"num_hidden_layers": layers}).encode())
    assert "layers not found" in world.merge(layers)


def test_more_dimensions_and_larger_numbers_than_there_are(world):
    for shape in (
        [1] * 65,
        [2**63],
        [10**4000, 10**4000],
        [10**3000, 0],
        {},
        "",
        "ab",
        None,
        [True],
    ):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
        content = (world.root / "A" / "model.safetensors").read_bytes()
        world.put("A/model.safetensors", with_header(content, json.dumps({"t": entry}).encode()))
        assert "tensor `t`" in world.merge(shape)
        world.restore()


def test_a_config_with_half_a_character_is_kept(world):
    config = CONFIG | {"note": "\ud800"}
    world.put("base/config.json", json.dumps(config).encode())
    merge_file(world.root / "merge.yaml", world.out, None)
    assert json.loads((world.out / "config.json").read_text()) == config | {"dtype": "float32"}

import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from merging import mask, model_folder, random_tensors, tensors_in

from accord.errors import InputError
from accord.merge import engine
from accord.merge import tensors as tensors_module
from accord.merge.blend import F32, within
from accord.merge.masks import LEVELS, draws, kept_share, mask_key
from accord.merge.stage import merge
from accord.merge.tensors import MergedTensor
from accord.records import LayerWeights

torch.set_num_threads(1)

LAYERS = 2
CONFIG = {"num_hidden_layers": LAYERS, "vocab_size": 12}
SHAPES = {"model.embed_tokens.weight": (12, 7), "model.norm.weight": (9,)}
SHAPES |= {f"model.layers.{i}.up.weight": (25, 31) for i in range(LAYERS)}
LABELS = ("A", "B", "C")
ROWS = {"A": (0.6, -0.2), "B": (0.3, 0.5), "C": (0.4, 0.7)}


def inputs(root, count=3, shapes=None, dtype=torch.float32, shards=1):
    """A base and models that differ from it, as specialists do."""
    shapes = shapes or SHAPES
    base = random_tensors(0, shapes)
    made = model_folder(
        root / "base", {n: t.to(dtype) for n, t in base.items()}, CONFIG, shards=shards
    )
    models = {}
    for k, label in enumerate(LABELS[:count]):
        moved = random_tensors(k + 1, shapes)
        tensors = {n: (t + 0.3 * moved[n]).to(dtype) for n, t in base.items()}
        models[label] = model_folder(root / label, tensors, CONFIG, shards=shards)
    return made, models


def table(labels=LABELS):
    rows = tuple(ROWS[label] for label in labels)
    return LayerWeights(models=tuple(labels), layers=LAYERS, weights=rows)


def weight(label, name):
    row = ROWS[label]
    return row[int(name.split(".")[2])] if ".layers." in name else sum(row) / len(row)


def merged(base, models, out, method, options=None, **more):
    given_weights = None if method == "model_stock" else table(tuple(models))
    more = {"weights": given_weights, "method": method, "options": options or {}} | more
    notes = merge(base, models, out=out, **more)
    return tensors_in(out), notes


# Each method again in float64: (deltas [K, n], weights [K], options, masks [K, n]) -> change [n].


def elected(d, w, elect="unweighted", normalize=False, **_):
    votes = (d if elect == "unweighted" else w * d).sum(0)
    sign = torch.where(votes >= 0, 1.0, -1.0)
    own = (d if elect == "unweighted" else w * d).sign()
    agree = (own == sign).double()
    change = (w * d * agree).sum(0)
    total = (w * agree).sum(0)
    return change / torch.where(total.abs() < 1e-8, 1.0, total) if normalize else change


def added(d, w, normalize=False, **_):
    return (w * d).sum(0) / (w.sum() if normalize else 1)


def trimmed(d, first, last, rescale=False):
    """The magnitudes at ranks [first, last) of each row."""
    out = torch.zeros_like(d)
    for k, row in enumerate(d):
        order = row.abs().argsort()[first:last]
        out[k, order] = row[order]
        if rescale:
            out[k] *= row.abs().sum() / out[k].abs().sum()
    return out


def plain_ties(d, w, base, masks, density=0.8, rescale=False, **how):
    n = d.shape[1]
    return elected(trimmed(d, n - max(1, int(density * n)), n, rescale), w, **how)


def plain_breadcrumbs(d, w, base, masks, density=0.8, gamma=0.01, rescale=False, **how):
    n = d.shape[1]
    kept = max(1, int(density * n))
    first = max(0, n - kept - int(gamma * n))
    return added(trimmed(d, first, first + kept, rescale), w, **how)


def plain_dare(combine):
    def change(d, w, base, masks, density=0.8, rescale=True, **how):
        return combine(d * masks(density) / (kept_share(density) if rescale else 1), w, **how)

    return change


def plain_linear(d, w, base, masks, normalize=True):
    mean = (w * (base + d)).sum(0)
    return (mean / w.sum() if normalize else mean) - base


def plain_slerp(d, w, base, masks):
    (t,), other = w.flatten().tolist(), base + d[0]
    angle = torch.arccos((base @ other / base.norm() / other.norm()).clamp(-1, 1))
    if angle.cos().abs() > 0.9995:
        return t * d[0]
    parts = torch.sin((1 - t) * angle) * base + torch.sin(t * angle) * other
    return parts / torch.sin(angle) - base


def plain_stock(d, w, base, masks):
    k = len(d)
    unit = d / d.norm(dim=1, keepdim=True)
    cosine = ((unit @ unit.T).sum() - k) / (k * (k - 1))
    return k * cosine / (1 + (k - 1) * cosine) * d.mean(0)


def scaled(change):
    def with_lambda(d, w, base, masks, **options):
        factor = options.pop("lambda", 1.0)
        return factor * change(d, w, base, masks, **options)

    return with_lambda


def plain_della(d, w, base, masks, density=1.0, **how):
    return elected(d, w, **how)  # nothing is dropped at density 1


PLAIN = {
    "dare_ties": scaled(plain_dare(elected)),
    "dare_linear": scaled(plain_dare(added)),
    "task_arithmetic": scaled(lambda d, w, base, masks, **how: added(d, w, **how)),
    "ties": scaled(plain_ties),
    "breadcrumbs": scaled(plain_breadcrumbs),
    "linear": plain_linear,
    "slerp": plain_slerp,
    "model_stock": plain_stock,
    "della": scaled(plain_della),
}
ELECTIONS = [{}, {"elect": "weighted"}, {"normalize": True}, {"elect": "weighted", "lambda": 0.5}]
CASES = [
    *(("dare_ties", {"density": d} | how) for d in (1.0, 0.6) for how in ELECTIONS),
    ("dare_ties", {"density": 0.5, "rescale": False, "normalize": True}),
    ("dare_linear", {"density": 0.4}),
    ("dare_linear", {"density": 0.4, "rescale": False, "lambda": 1.5, "normalize": True}),
    ("task_arithmetic", {}),
    ("task_arithmetic", {"normalize": True, "lambda": -0.5}),
    *(("ties", {"density": d} | how) for d in (1.0, 0.37, 0.001) for how in ELECTIONS),
    ("ties", {"density": 0.2, "rescale": True}),
    ("breadcrumbs", {}),
    ("breadcrumbs", {"density": 0.3, "gamma": 0.2, "lambda": 2.0}),
    ("breadcrumbs", {"density": 0.95, "gamma": 0.4, "rescale": True, "normalize": True}),
    ("linear", {}),
    ("linear", {"normalize": False}),
    ("slerp", {}),
    ("model_stock", {}),
    *(("della", {"density": 1.0} | how) for how in ELECTIONS),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return inputs(tmp_path_factory.mktemp("methods"))


def some(models, method):
    """slerp takes one model."""
    return {"B": models["B"]} if method == "slerp" else models


def masks_of(labels, name, size, density):
    keys = [mask_key(0, label, name) for label in labels]
    return torch.tensor(np.array([mask(key, 0, size, density) for key in keys])).double()


@pytest.mark.parametrize("method, options", CASES)
def test_every_method_is_what_plain_torch_makes_in_float64(prepared, tmp_path, method, options):
    base, models = prepared[0], some(prepared[1], method)
    found, _ = merged(base, models, tmp_path / "out", method, options)
    origin, others = tensors_in(base), [tensors_in(folder) for folder in models.values()]
    assert found.keys() == origin.keys()
    for name, tensor in origin.items():
        flat = tensor.flatten()
        # A delta is a float32; its rank must not depend on more.
        d = torch.stack([other[name].flatten() - flat for other in others]).double()
        w = torch.tensor([weight(label, name) for label in models]).double().reshape(-1, 1)

        masks = partial(masks_of, tuple(models), name, flat.numel())
        wanted = flat.double() + PLAIN[method](d, w, flat.double(), masks, **options)
        torch.testing.assert_close(
            found[name].flatten().double(), wanted, rtol=1e-5, atol=3e-6, msg=name
        )


def test_every_method_is_tested(prepared):
    from accord.registry import components

    assert set(components("methods")) == set(PLAIN) == {method for method, _ in CASES}


def test_slerp_of_nearly_parallel_tensors_is_linear(tmp_path):
    origin = random_tensors(0, SHAPES)
    base = model_folder(tmp_path / "base", origin, CONFIG)
    near = {name: 1.5 * t + 1e-3 for name, t in origin.items()}
    models = {"B": model_folder(tmp_path / "B", near, CONFIG)}
    found, _ = merged(base, models, tmp_path / "out", "slerp")
    for name, tensor in origin.items():
        wanted = tensor + weight("B", name) * (near[name] - tensor)
        torch.testing.assert_close(found[name], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_slerp_and_model_stock_of_equal_models_change_nothing(tmp_path, same):
    tensors = {name: torch.full(shape, same) for name, shape in SHAPES.items()}
    base = model_folder(tmp_path / "base", tensors, CONFIG)
    for method, labels in (("slerp", "A"), ("model_stock", "AB")):
        found, _ = merged(base, dict.fromkeys(labels, base), tmp_path / method, method)
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)


DELLA = {"density": 0.5, "epsilon": 0.3, "elect": "unweighted"}


def test_della_keeps_by_rank_and_rescales_by_the_chance(tmp_path):
    """So that the expected change is the delta: the chance by rank is linear, and is divided by."""
    shapes = {"model.embed_tokens.weight": (60, 4000), "model.layers.0.up": (4,)}
    shapes |= {"model.layers.1.up": (4,)}
    zeros = {name: torch.zeros(shape) for name, shape in shapes.items()}
    base = model_folder(tmp_path / "base", zeros, CONFIG)
    delta = random_tensors(1, shapes)
    models = {"B": model_folder(tmp_path / "B", delta, CONFIG)}
    one = LayerWeights(models=("B",), layers=2, weights=((1.0, 1.0),))
    found, _ = merged(base, models, tmp_path / "out", "della", DELLA, weights=one)
    change, d = (t["model.embed_tokens.weight"].double().numpy() for t in (found, delta))
    rank = np.abs(d).argsort(axis=1).argsort(axis=1)
    chance = 0.2 + 0.6 * rank / 3999
    kept = change != 0
    np.testing.assert_allclose(change[kept], (d / chance)[kept], rtol=1e-3)
    for tenth in range(10):
        inside = rank // 400 == tenth
        p, n = chance[inside].mean(), inside.sum()
        assert abs(kept[inside].mean() - p) < 5 * np.sqrt(p * (1 - p) / n)
    error = (change - d).mean()
    assert abs(error) < 5 * (d**2 * (1 / chance - 1)).mean() ** 0.5 / d.size**0.5


def coarse(seed, shape):
    """Deltas of five magnitudes only."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32))


@pytest.mark.parametrize(
    "method, options, share, largest",
    [
        ("ties", {"density": 0.3}, 0.3, 2),  # a part of the largest
        ("ties", {"density": 0.6}, 0.6, 2),  # all of those, a part of the next
        ("breadcrumbs", {"density": 0.5, "gamma": 0.1}, 0.5, 2),
        ("breadcrumbs", {"density": 0.2, "gamma": 0.3}, 0.2, 2),  # a part of a part
        ("breadcrumbs", {"density": 0.1, "gamma": 0.5}, 0.1, 1),
    ],
)
def test_of_equal_magnitudes_the_right_number_is_kept(tmp_path, method, options, share, largest):
    shapes = {"model.embed_tokens.weight": (100, 1000), "model.layers.0.u": (4,)}
    shapes |= {"model.layers.1.u": (4,)}
    zeros = {name: torch.zeros(shape) for name, shape in shapes.items()}
    base = model_folder(tmp_path / "base", zeros, CONFIG)
    delta = {name: coarse(3, shape) for name, shape in shapes.items()}
    models = {"B": model_folder(tmp_path / "B", delta, CONFIG)}
    one = LayerWeights(models=("B",), layers=2, weights=((1.0, 1.0),))
    found, _ = merged(base, models, tmp_path / "out", method, options, weights=one)
    change, d = (t["model.embed_tokens.weight"].numpy().ravel() for t in (found, delta))
    size = d.size
    order = np.sort(np.abs(d))
    kept = int(share * size)
    first = max(0, size - kept - int(options.get("gamma", 0) * size))
    assert set(np.abs(change[change != 0])) <= set(order[first : first + kept])
    assert np.abs(change).max() == order[first + kept - 1] == largest
    for magnitude in (1, 2):
        wanted = np.count_nonzero(order[first : first + kept] == magnitude)
        chosen = np.count_nonzero(np.abs(change) == magnitude)
        assert abs(chosen - wanted) < 5 * np.sqrt(size) / 2
    assert np.array_equal(change[change != 0], d[change != 0])


class Array:
    """A model of one tensor in memory."""

    tensors = ()

    def __init__(self, values):
        self.values = values

    def fill(self, name, start, count, row):
        row[: 4 * count].view(np.float32)[:] = self.values[start : start + count]
        return F32


VALUES = arrays(
    np.float32,
    st.integers(1, 150),
    elements=st.sampled_from([0, -0.0, 1, -1, 2, 1e-45, 3e38]) | st.floats(-4, 4, width=32),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(VALUES, st.data())
def test_spans_are_those_of_sorting(values, data):
    size = len(values)
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first + 1, size))
    base = Array(np.zeros(size, np.float32))
    tensor = MergedTensor("t", (size,), (1.0,) * 2, base, (Array(values), base), (1, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors_module, "PIECE", 64)
        span, of_zeros = tensor.spans([(first, last), (first, last)])
    order = np.sort(np.abs(values)).view(np.uint32)
    sizes, counts = np.unique(order, return_counts=True)
    wanted = [np.count_nonzero(order[first:last] == size) for size in sizes]
    kept = expected_kept(span, sizes, counts)
    assert np.all(np.abs(kept - wanted) <= counts / LEVELS / 2)
    zeros = expected_kept(of_zeros, np.uint32([0]), np.array([size]))
    assert abs(zeros[0] - (last - first)) <= size / LEVELS / 2


def expected_kept(span, sizes, counts):
    """How many of so many equal magnitudes a span keeps in expectation."""
    levels = np.arange(LEVELS, dtype=np.uint16)
    shares = [within(span, np.full(LEVELS, s, np.uint32), levels).mean() for s in sizes]
    return counts * np.array(shares)


def test_what_is_kept_of_the_norm(monkeypatch):
    values = np.float32([1, -2, 3, 4, 0])
    base = Array(np.zeros(5, np.float32))
    tensor = MergedTensor("t", (5,), (1.0,) * 2, base, (Array(values), base), (7, 8))
    assert tensor.kept_norms(tensor.spans([(3, 5), (3, 5)])) == [0.7, 1.0]
    (half,) = MergedTensor("t", (4,), (1.0,), base, (Array(np.float32([5] * 4)),), (7,)).spans(
        [(2, 4)]
    )
    assert half.low_level == half.high_level == LEVELS // 2
    drawn = draws(7, 0, 4) < half.low_level
    one = MergedTensor("t", (4,), (1.0,), base, (Array(np.float32([5] * 4)),), (7,))
    assert one.kept_norms([half]) == [drawn.mean()]


SPARSE = {"density": 0.55}
SAME = [
    ("dare_ties", SPARSE),
    ("dare_ties", SPARSE | {"normalize": True, "elect": "weighted"}),
    ("dare_linear", SPARSE),
    ("task_arithmetic", {}),
    ("ties", SPARSE),
    ("ties", SPARSE | {"rescale": True, "normalize": True}),
    ("breadcrumbs", SPARSE | {"gamma": 0.1}),
    ("della", SPARSE),
    ("linear", {}),
    ("slerp", {}),
    ("model_stock", {}),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method, options", SAME)
def test_bytes_depend_on_no_order_piece_thread_shard_or_kernel(
    tmp_path, monkeypatch, method, options, dtype
):
    base, models = inputs(tmp_path, dtype=dtype)
    models = some(models, method)
    merged(base, models, tmp_path / "whole", method, options)

    def same(name, models=models, base=base, **more):
        merged(base, models, tmp_path / name, method, options, **more)
        mine, whole = tmp_path / name, tmp_path / "whole"
        assert (mine / "model.safetensors").read_bytes() == (
            whole / "model.safetensors"
        ).read_bytes(), name

    same("reversed", dict(reversed(models.items())))
    same("numpy", kernel="numpy")
    parted, others = inputs(tmp_path / "shards", dtype=dtype, shards=2)
    same("from shards", some(others, method), parted)
    for piece, threads in ((8, 1), (64, 2), (100, 3)):
        monkeypatch.setattr(engine, "PIECE", piece)
        monkeypatch.setattr(engine, "PART", 2 * piece)
        if not options.get("rescale") and method not in ("slerp", "model_stock"):
            monkeypatch.setattr(tensors_module, "PIECE", piece)  # else the order of a sum
        same(f"{threads} threads", threads=threads)
        same(f"{threads} threads in numpy", threads=threads, kernel="numpy")


@pytest.mark.parametrize("method", ["dare_ties", "dare_linear", "ties", "breadcrumbs", "della"])
def test_tensors_of_one_dimension_may_be_exempt(prepared, tmp_path, method):
    base, models = prepared
    options = {"density": 0.5}
    spared, _ = merged(base, models, tmp_path / "spared", method, options, exempt_1d=True)
    usual, _ = merged(base, models, tmp_path / "usual", method, options)
    whole, _ = merged(base, models, tmp_path / "whole", method, {"density": 1.0})
    if method == "breadcrumbs":
        whole, _ = merged(base, models, tmp_path / "sum", "task_arithmetic")
    for name, tensor in spared.items():
        assert torch.equal(tensor, (whole if tensor.dim() == 1 else usual)[name])
        assert not torch.equal(tensor, (usual if tensor.dim() == 1 else whole)[name])


@pytest.mark.parametrize("wanted", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("own", [torch.float32, torch.bfloat16])
def test_the_dtype_of_the_result_is_a_choice(tmp_path, own, wanted):
    kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[wanted]
    base, models = inputs(tmp_path, dtype=own)
    exact, _ = merged(base, models, tmp_path / "exact", "ties", dtype="F32")
    found, _ = merged(base, models, tmp_path / "out", "ties", dtype=wanted)
    for name, tensor in found.items():
        assert tensor.dtype == kind
        assert torch.equal(tensor, exact[name].to(kind))  # rounded once
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == CONFIG | {"dtype": str(kind).removeprefix("torch.")}


@pytest.mark.parametrize("method", ["dare_ties", "ties", "breadcrumbs", "della", "linear"])
def test_what_is_not_finite_may_pass_and_is_counted(tmp_path, method):
    base, models = inputs(tmp_path / "in")
    tensors = tensors_in(models["B"])
    tensors["model.layers.1.up.weight"][3, 4:7] = torch.tensor([float("nan"), 1e39, -1e39])
    models["B"] = model_folder(tmp_path / "in" / "bad", tensors, CONFIG)
    found, notes = merged(base, models, tmp_path / "out", method, allow_nonfinite=True)
    (note,) = notes
    assert note == (
        "tensor `model.layers.1.up.weight`: values that are NaN or infinite: 3 in "
        f"{models['B']}: model B"
    )
    bad = {name: int((~tensor.isfinite()).sum()) for name, tensor in found.items()}
    assert 0 <= bad.pop("model.layers.1.up.weight") <= 3
    assert not any(bad.values())
    if method == "linear":
        assert not found["model.layers.1.up.weight"][3, 4:7].isfinite().any()


def refused(tmp_path, said, models, **more):
    base = more.pop("base")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=said):
        merge(base, models, out=tmp_path / "new" / "out", **more)
    assert sorted(tmp_path.rglob("*")) == before


def test_methods_refuse_what_they_cannot_do_before_anything_is_written(tmp_path):
    base, models = inputs(tmp_path / "in")
    ab = {label: models[label] for label in "AB"}
    how = {"base": base, "weights": table()}
    refused(
        tmp_path,
        "slerp takes one model .* not 2",
        ab,
        **how | {"weights": table("AB")},
        method="slerp",
    )
    refused(tmp_path, "model_stock takes no weights", models, **how, method="model_stock")
    one = {"A": models["A"]}
    refused(tmp_path, "two models or more", one, base=base, weights=None, method="model_stock")
    nothing = LayerWeights(models=LABELS, layers=2, weights=((0.5, 0.5), (-0.5, -0.5), (0, 0)))
    refused(tmp_path, "add up to 0", models, base=base, weights=nothing, method="linear")
    tight = {"density": 0.8, "epsilon": 0.2}
    refused(tmp_path, "leaves .0, 1.", models, **how, method="della", options=tight)


@pytest.mark.parametrize(
    "method",
    [
        "dare_ties",
        "dare_linear",
        "task_arithmetic",
        "ties",
        "breadcrumbs",
        "della",
        "linear",
        "slerp",
    ],
)
def test_methods_with_weights_ask_for_them(tmp_path, method):
    base, models = inputs(tmp_path / "in", 1)
    refused(tmp_path, "give `layer_weights`", models, base=base, weights=None, method=method)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "much"])
def test_lambda_is_a_finite_number(tmp_path, value):
    base, models = inputs(tmp_path / "in")
    for method in ("dare_ties", "dare_linear", "task_arithmetic", "ties", "breadcrumbs", "della"):
        how = {"base": base, "weights": table(), "options": {"lambda": value}}
        refused(tmp_path, "merge.lambda.*found", models, **how, method=method)

import math
import shutil

import numpy as np
import pytest
import torch
from conftest import FakeEncoder, make_tokenizer, make_wordings, tiny_model

from accord.errors import InputError, RunError
from accord.models.base import find_layers, load_model, load_tokenizer
from accord.weigh.activations import layer_features
from accord.weigh.similarity import cosine, distance, standardized
from accord.weigh.stage import spread, weigh
from accord.weigh.weights import paper, uniform

QUERIES = [w.query for w in make_wordings(6)]
NAMES = ("HTD", "SEM", "SPA")
FINAL_NORM = {"llama": "norm", "gemma3": "norm", "gpt2": "ln_f"}


def tokenizer():
    made = make_tokenizer()
    made.pad_token = made.eos_token
    return made


def by_hand(model, family, query, pool):
    """Pooled outputs of every layer for one query alone, from `output_hidden_states`.

    transformers puts the final norm on the last entry; without the norm it is the layer's own.
    """
    trunk = model.transformer if family == "gpt2" else model.model
    norm = getattr(trunk, FINAL_NORM[family])
    setattr(trunk, FINAL_NORM[family], torch.nn.Identity())
    ids = torch.tensor([tokenizer()(query)["input_ids"]])
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[1:]
    setattr(trunk, FINAL_NORM[family], norm)
    pools = {"max": lambda h: h.max(0).values, "mean": lambda h: h.mean(0), "last": lambda h: h[-1]}
    return [pools[pool](h[0]).numpy() for h in states]


@pytest.mark.parametrize("family", sorted(FINAL_NORM))
@pytest.mark.parametrize("pool", ["max", "mean", "last"])
def test_features_are_the_pooled_outputs_of_the_layers(family, pool):
    model = tiny_model(family)
    features = layer_features(model, tokenizer(), QUERIES, pool=pool, name="SEM", batch=5)
    assert len(features) == 3 and {f.shape for f in features} == {(len(QUERIES), 32)}
    for row, query in enumerate(QUERIES):
        for layer, wanted in enumerate(by_hand(model, family, query, pool)):
            np.testing.assert_allclose(features[layer][row], wanted, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_batch_size_does_not_matter_and_no_hook_stays(family):
    model = tiny_model(family)
    one = layer_features(model, tokenizer(), QUERIES, pool="max", name="SEM", batch=1)
    for batch in (4, 100):
        other = layer_features(model, tokenizer(), QUERIES, pool="max", name="SEM", batch=batch)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
    assert not any(layer._forward_hooks for layer in find_layers(model, "SEM"))


def test_features_of_a_model_that_was_in_training_have_no_dropout():
    model = tiny_model("gpt2", resid_pdrop=0.5).train()
    a, b = (layer_features(model, tokenizer(), QUERIES, pool="max", name="SEM") for _ in range(2))
    np.testing.assert_array_equal(a, b)


def plain_standardized(x):
    deviation = x.std(0, unbiased=False)
    x = ((x - x.mean(0)) / deviation)[:, deviation > 0]
    return torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)


def plain_cosine(x):
    return torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)


def algorithm_1(features, reference, similar, a, b):
    """Algorithm 1, pair by pair. features[k][l]: [T, D] -> distances and weights [K][L]."""
    S_r = similar(reference)
    T = len(S_r)
    K, L = len(features), len(features[0])
    d = [[0.0] * L for _ in range(K)]
    for k in range(K):
        for layer in range(L):
            S = similar(features[k][layer])
            pairs = [abs(float(S[i, j] - S_r[i, j])) for i in range(T) for j in range(T) if i != j]
            d[k][layer] = sum(pairs) / len(pairs)
    w = [[0.0] * L for _ in range(K)]
    for layer in range(L):
        column = [d[k][layer] for k in range(K)]
        tilde = [max(column) - x for x in column]
        for k in range(K):
            r = tilde[k] / sum(tilde) if sum(tilde) else 1 / K
            w[k][layer] = 1 / (1 + math.exp(-(a * r + b)))
    return d, w


@pytest.fixture(scope="module")
def models(make_model):
    return {name: make_model("llama", seed=seed) for seed, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    ("similarity", "plain"), [("standardized", plain_standardized), ("cosine", plain_cosine)]
)
def test_weights_are_those_of_algorithm_1(similarity, plain, models, fake_encoder):
    weights, _ = weigh(
        models, QUERIES, fake_encoder, similarity=similarity, options={"a": 3.0, "b": -0.5}
    )
    features = []
    for name in NAMES:
        model = load_model(models[name])
        rows = [by_hand(model, "llama", query, "max") for query in QUERIES]
        features.append(
            [torch.tensor(np.stack(layer)).double() for layer in zip(*rows, strict=True)]
        )
    reference = torch.tensor(fake_encoder.encode(QUERIES)).double()
    d, w = algorithm_1(features, reference, plain, 3.0, -0.5)
    np.testing.assert_allclose(weights.distances, d, atol=1e-5)
    np.testing.assert_allclose(weights.weights, w, atol=1e-3)
    np.testing.assert_allclose(weights.outside_layers, np.mean(weights.weights, 1))
    assert weights.models == NAMES and weights.layers == 3
    assert np.ptp(weights.weights, axis=0).min() > 0.05


def test_permuting_the_models_permutes_the_weights(models, fake_encoder):
    renamed = {"a": models["SPA"], "b": models["HTD"], "c": models["SEM"]}
    one, _ = weigh(models, QUERIES, fake_encoder)
    two, _ = weigh(renamed, QUERIES, fake_encoder)
    rows = dict(zip(NAMES, one.weights, strict=True))
    assert two.models == ("a", "b", "c")
    assert two.weights == (rows["SPA"], rows["HTD"], rows["SEM"])
    backwards, _ = weigh(dict(reversed(models.items())), QUERIES, fake_encoder)
    assert backwards == one


@pytest.mark.parametrize(("a", "b"), [(2.0, -1.0), (5.0, 0.3)])
def test_identical_models_get_equal_weights(a, b, models, fake_encoder):
    same = dict.fromkeys(NAMES, models["HTD"])
    weights, notes = weigh(same, QUERIES, fake_encoder, options={"a": a, "b": b})
    np.testing.assert_allclose(weights.weights, 1 / (1 + math.exp(-(a / 3 + b))))
    assert any("in 3 layers all models are equally far" in note for note in notes)


def test_two_models_are_told_of_as_all_or_nothing(models, fake_encoder):
    two = {n: models[n] for n in NAMES[:2]}
    weights, notes = weigh(two, QUERIES, fake_encoder, options={"a": 2.0, "b": -1.0})
    sigmoid = {1 / (1 + math.exp(1)), 1 / (1 + math.exp(-1))}
    for column in zip(*weights.weights, strict=True):
        assert sorted(column) == pytest.approx(sorted(sigmoid))
    assert any("with 2 models the shares are 0 and 1" in note for note in notes)


def test_repeated_queries_count_once(models, fake_encoder):
    once, _ = weigh(models, QUERIES, fake_encoder)
    twice, _ = weigh(models, QUERIES + QUERIES[:5], fake_encoder)
    assert once == twice


@pytest.mark.parametrize("queries", [[], ["one"], ["same", "same", "same"]])
def test_fewer_than_two_different_queries_are_refused(queries, models, fake_encoder):
    with pytest.raises(InputError, match=r"at least 2.*dev split"):
        weigh(models, queries, fake_encoder)


def test_models_of_different_depth_are_refused(models, make_model, fake_encoder):
    mixed = models | {"SEM": make_model("llama", num_hidden_layers=2)}
    with pytest.raises(InputError, match="SEM has 2 layers and HTD has 3"):
        weigh(mixed, QUERIES[:4], fake_encoder)


def test_an_encoder_that_gives_no_numbers_is_refused(models, encoder_folder):
    from accord.models.encoder import Encoder

    class Broken:
        def encode(self, texts, **options):
            return np.full((len(texts), 4), np.nan, dtype=np.float32)

    encoder = Encoder(encoder_folder)
    encoder._model = Broken()
    with pytest.raises(InputError, match=r"encoder: .*not finite"):
        weigh(models, QUERIES, encoder)


def test_a_model_with_broken_weights_is_named(models, tmp_path, fake_encoder):
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0] = torch.nan
    model.save_pretrained(tmp_path)
    load_tokenizer(models["HTD"]).save_pretrained(tmp_path)
    with pytest.raises(RunError, match="SPA gives activations that are not finite"):
        weigh(models | {"SPA": tmp_path}, QUERIES, fake_encoder)


def test_weights_lie_between_0_and_1_and_fall_with_the_distance():
    rng = np.random.default_rng(0)
    for _ in range(200):
        K, L = rng.integers(1, 6), rng.integers(1, 5)
        d = rng.uniform(0, 2, (K, L))
        w = paper(d, a=rng.uniform(0.1, 5), b=rng.uniform(-3, 3))
        assert ((w > 0) & (w < 1)).all()
        for layer in range(L):
            assert (np.diff(w[np.argsort(d[:, layer]), layer]) <= 0).all()


def test_only_gaps_between_models_count():
    d = np.asarray([[0.1, 0.4], [0.2, 0.3], [0.4, 0.1]])
    np.testing.assert_allclose(paper(d), paper(10 * d + 3))


def test_uniform_weights_have_the_total_asked_for(models, fake_encoder):
    np.testing.assert_allclose(uniform(np.zeros((3, 5)), total=1.2).sum(0), 1.2)
    weights, _ = weigh(models, QUERIES, fake_encoder, weighting="uniform", options={"total": 0.9})
    np.testing.assert_allclose(weights.weights, 0.3)


def test_similarities_are_symmetric_bounded_and_one_on_the_diagonal():
    features = np.random.default_rng(1).normal(3, 1, (9, 5))
    for similar in (cosine, standardized):
        s = similar(features)
        np.testing.assert_allclose(s, s.T)
        np.testing.assert_allclose(np.diag(s), 1)
        assert (np.abs(s) <= 1 + 1e-12).all()
    np.testing.assert_allclose(standardized(features), standardized(features * 7 + 100), atol=1e-9)
    assert not np.allclose(cosine(features), cosine(features + 100))


def test_a_feature_without_spread_or_a_row_of_zeros_gives_no_nan():
    features = np.zeros((4, 3))
    features[1:, 0] = [1, 2, 3]
    for similar in (cosine, standardized):
        assert np.isfinite(similar(features)).all()


def test_distance_leaves_the_diagonal_out():
    one, two = np.eye(3), np.full((3, 3), 0.5)
    assert distance(one, two) == pytest.approx(0.5)
    assert distance(one, one + np.diag([9, 9, 9])) == 0


def test_spread_is_relative_to_the_mean():
    np.testing.assert_allclose(spread(np.asarray([[0.1, 0.0], [0.3, 0.0]])), [1.0, 0.0])


def test_a_truncated_model_is_an_input_error(models, tmp_path):
    shutil.copytree(models["HTD"], tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    for size in (1000, 0):
        weights.write_bytes(weights.read_bytes()[:size])
        with pytest.raises(InputError, match="cut: transformers cannot load it"):
            load_model(tmp_path / "cut")


def test_layers_that_cannot_be_found_are_an_input_error():
    model = tiny_model("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(InputError, match="MyModel: its layers cannot be found: no list of 7"):
        find_layers(model, "MyModel")


def test_the_fake_encoder_is_deterministic_and_normalised():
    vectors = FakeEncoder().encode(QUERIES)
    np.testing.assert_array_equal(vectors, FakeEncoder().encode(QUERIES))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)

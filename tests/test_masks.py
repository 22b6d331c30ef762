import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from merging import mask

from accord.errors import InputError
from accord.merge.masks import draws, kept_share, mask_key

KEY = mask_key(0, "HTD", "model.layers.0.mlp.up_proj.weight")
N = 1 << 20


def splitmix64(state: int) -> tuple[int, int]:
    """The published generator, in plain integers."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    z = state
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return state, z ^ (z >> 31)


def test_draws_are_the_lanes_of_splitmix64():
    state, wanted = KEY, []
    for _ in range(10_000):
        state, word = splitmix64(state)
        wanted += [(word >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]
    assert draws(KEY, 0, 40_000).tolist() == wanted


def test_the_generator_gives_its_published_numbers():
    assert splitmix64(1234567)[1] == 6457827717110365317


@given(st.integers(0, 2**64 - 1), st.integers(0, 80_000), st.integers(0, 80_000))
def test_any_piece_equals_that_piece_of_the_whole(key, a, b):
    a, b = sorted((a, b))
    whole = mask(key, 0, 80_000, 0.8)
    assert np.array_equal(mask(key, a, b - a, 0.8), whole[a:b])


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.8, 0.95])
def test_the_kept_share_is_the_density(density):
    kept = mask(KEY, 0, N, density).mean()
    share = kept_share(density)
    assert abs(share - density) <= 0.5 / 65536
    assert abs(kept - share) < 4.5 * np.sqrt(share * (1 - share) / N)


def test_neighbours_and_models_and_tensors_and_seeds_are_independent():
    one = mask(KEY, 0, N, 0.5).astype(np.float64) - 0.5
    others = [mask(mask_key(*k), 0, N, 0.5) - 0.5 for k in ((0, "SEM", "t"), (1, "HTD", "t"))]
    others += [np.roll(one, lag) for lag in (1, 2, 3, 4, 8)]
    for other in others:
        assert abs((one * other).mean() * 4) < 5 / np.sqrt(N)


def test_each_lane_keeps_the_same_share():
    shares = mask(KEY, 0, N, 0.8).reshape(-1, 4).mean(axis=0)
    assert np.abs(shares - 0.8).max() < 5 * np.sqrt(0.16 / (N / 4))


def test_density_one_keeps_everything_and_nearly_one_does_not():
    assert mask(KEY, 0, N, 1.0).all()
    assert kept_share(1.0) == 1
    assert kept_share(0.999999) < 1
    assert kept_share(1e-9) == 1 / 65536


def test_keys_tell_labels_apart_however_they_are_cut():
    keys = {mask_key(0, "a", "b.c"), mask_key(0, "a.b", "c"), mask_key(1, "a", "b.c")}
    keys |= {mask_key(0, 'a", "b', "c"), mask_key(0, "é", "b.c")}
    assert len(keys) == 5


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, float("nan")])
def test_a_density_outside_its_range_is_refused(density):
    with pytest.raises(InputError, match=r"density.*\(0, 1\]"):
        mask(KEY, 0, 4, density)

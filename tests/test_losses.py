import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.models.losses import IGNORED, answer_cross_entropy, mean_pool, pad_left, triplet


def rows_of(seed, lengths):
    """(prompt length, answer length) pairs -> left-padded labels and full logits."""
    g = torch.Generator().manual_seed(seed)
    longest = max(p + a for p, a in lengths)
    labels = torch.full((len(lengths), longest), IGNORED)
    for row, (_, answer) in enumerate(lengths):
        labels[row, longest - answer :] = torch.randint(0, 13, (answer,), generator=g)
    logits = torch.randn(len(lengths), longest, 13, generator=g)
    return logits, labels


LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=5)


@settings(max_examples=50, deadline=None)
@given(LENGTHS, st.integers(0, 1000))
def test_cross_entropy_of_the_last_positions_is_that_of_all_positions(lengths, seed):
    logits, labels = rows_of(seed, lengths)
    keep = max(answer for _, answer in lengths) + 1
    wanted = F.cross_entropy(
        logits[:, :-1].reshape(-1, 13), labels[:, 1:].reshape(-1), ignore_index=-100
    )
    got = answer_cross_entropy(logits[:, -keep:], labels)
    torch.testing.assert_close(got / sum(a for _, a in lengths), wanted)


def test_cross_entropy_is_summed_in_fp32():
    logits, labels = rows_of(0, [(3, 4), (2, 2)])
    assert answer_cross_entropy(logits.bfloat16(), labels).dtype == torch.float32


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.5])
def test_triplet_is_torchs_triplet_loss_with_squared_distance(margin):
    g = torch.Generator().manual_seed(1)
    a, p, n = (F.normalize(torch.randn(40, 7, generator=g), dim=-1) for _ in range(3))
    reference = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=lambda x, y: F.pairwise_distance(x, y, eps=0) ** 2,
        margin=margin,
        reduction="sum",
    )
    got = triplet(a, p, n, margin)
    torch.testing.assert_close(got, reference(a, p, n))
    assert got > 0


def test_triplet_is_zero_where_the_negative_is_farther_by_the_margin():
    a = torch.tensor([[1.0, 0.0]])
    assert triplet(a, a, -a, 3.9) == 0  # d(A,P) = 0, d(A,N) = 4
    assert triplet(a, -a, a, 0.5) == pytest.approx(4.5)


def test_mean_pool_is_the_mean_of_the_real_tokens():
    g = torch.Generator().manual_seed(2)
    lengths = (5, 2, 1)
    hidden = torch.randn(3, 5, 4, generator=g)
    mask = torch.tensor([[0] * (5 - n) + [1] * n for n in lengths])
    for row, n in enumerate(lengths):
        mean = sum(hidden[row, t] for t in range(5 - n, 5)) / n
        got = mean_pool(hidden, mask)[row]
        torch.testing.assert_close(got, mean / mean.norm())
        assert got.norm() == pytest.approx(1)


def test_mean_pool_ignores_what_stands_on_padding():
    mask = torch.tensor([[0, 0, 1, 1]])
    hidden = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(3))
    other = hidden.clone()
    other[:, :2] = 1e6
    torch.testing.assert_close(mean_pool(hidden, mask), mean_pool(other, mask))
    assert mean_pool(hidden.bfloat16(), mask).dtype == torch.float32


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=5))
def test_pad_left_keeps_every_row_at_the_right(rows):
    padded = pad_left(rows, 0).tolist()
    assert {len(r) for r in padded} == {max(len(r) for r in rows)}
    for row, got in zip(rows, padded, strict=True):
        assert got == [0] * (len(got) - len(row)) + row

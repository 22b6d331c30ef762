import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.models.base import pad_left, pad_right
from accord.models.losses import (
    CHUNK,
    IGNORED,
    answer_cross_entropy,
    distance,
    divergence,
    embed,
    hardest,
    triplet,
)

DISTANCES = ("squared_l2", "l2", "cosine")


def random(*shape, seed=0, dtype=torch.float64, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=dtype) * scale


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 3 * CHUNK),
    st.integers(2, 40),
    st.integers(0, 999),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_cross_entropy_and_its_gradient_are_torchs(count, width, seed, dtype):
    logits = random(count, width, seed=seed, dtype=torch.float32, scale=4).to(dtype)
    target = torch.randint(0, width, (count,), generator=torch.Generator().manual_seed(seed))
    target[::3] = IGNORED
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    got = answer_cross_entropy(ours, target)
    wide = theirs if dtype == torch.float64 else theirs.float()
    wanted = F.cross_entropy(wide, target, ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(got, wanted)
    (3 * got).backward()
    (3 * wanted).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_gradient_of_every_loss_is_that_of_float64_differences():
    target = torch.tensor([3, IGNORED, 0, 6, 2])
    logits = random(5, 7, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: answer_cross_entropy(x, target), (logits,))
    a, p, n = (random(6, 4, seed=s).requires_grad_() for s in range(3))
    for kind in DISTANCES:
        assert torch.autograd.gradcheck(
            lambda *x, kind=kind: triplet(*x, 0.5, kind).sum(), (a, p, n)
        )
    first, second = (random(5, 7, seed=s).requires_grad_() for s in (3, 4))
    for kind in ("js", "kl"):
        assert torch.autograd.gradcheck(
            lambda x, y, kind=kind: divergence(x, y, kind), (first, second)
        )
    hidden = random(9, 4, seed=5).requires_grad_()
    owner = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    for pool in ("mean", "last"):
        for normalize in (True, False):
            assert torch.autograd.gradcheck(
                lambda x, pool=pool, normalize=normalize: embed(
                    x, owner, 3, pool, normalize=normalize
                ),
                (hidden,),
            )


def test_a_gradient_written_over_the_logits_is_the_same_and_keepers_are_stopped():
    weight, states = random(9, 4).requires_grad_(), random(150, 4, seed=1)
    target = torch.arange(150) % 9
    found = []
    for overwrite in (False, True):
        weight.grad = None
        answer_cross_entropy(states @ weight.T, target, overwrite=overwrite).backward()
        found.append(weight.grad.clone())
    assert torch.equal(*found)
    logits = states @ weight.T
    kept = logits.square().sum()  # runs backward after what comes later
    both = kept + answer_cross_entropy(logits, target, overwrite=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        both.backward()


def test_no_answer_tokens_give_a_loss_of_zero_that_carries_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = answer_cross_entropy(logits, torch.zeros(0, dtype=torch.long))
    assert loss == 0
    loss.backward()
    blank = torch.randn(2, 5, requires_grad=True)
    answer_cross_entropy(blank, torch.tensor([IGNORED, IGNORED])).backward()
    assert torch.equal(blank.grad, torch.zeros(2, 5))


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.5])
@pytest.mark.parametrize("kind", DISTANCES)
def test_triplet_is_torchs_triplet_loss(margin, kind):
    a, p, n = (F.normalize(random(40, 7, seed=s), dim=-1) for s in range(3))
    reference = torch.nn.TripletMarginWithDistanceLoss(
        distance_function={
            "squared_l2": lambda x, y: F.pairwise_distance(x, y, eps=0) ** 2,
            "l2": lambda x, y: F.pairwise_distance(x, y, eps=0),
            "cosine": lambda x, y: 1 - F.cosine_similarity(x, y),
        }[kind],
        margin=margin,
        reduction="none",
    )
    got = triplet(a, p, n, margin, kind)
    torch.testing.assert_close(got, reference(a, p, n))
    assert got.sum() > 0


def test_l2_is_torchs_own_triplet_margin_loss():
    a, p, n = (random(40, 7, seed=s) for s in range(3))
    reference = torch.nn.TripletMarginLoss(margin=0.5, p=2, eps=0, reduction="none")
    torch.testing.assert_close(triplet(a, p, n, 0.5, "l2"), reference(a, p, n))


def test_triplet_is_zero_where_the_negative_is_farther_by_the_margin():
    a = torch.tensor([[1.0, 0.0]])
    assert triplet(a, a, -a, 3.9).sum() == 0  # d(A,P) = 0, d(A,N) = 4
    assert triplet(a, -a, a, 0.5).sum() == pytest.approx(4.5)


def test_equal_vectors_have_a_gradient_in_every_distance():
    for kind in DISTANCES:
        a = torch.tensor([[0.6, 0.8]], requires_grad=True)
        distance(a, a.detach().clone(), kind).sum().backward()
        assert torch.isfinite(a.grad).all()


def test_the_hardest_negative_is_the_nearest_that_may_be_one():
    anchors, others = random(5, 4, seed=0), random(15, 4, seed=1)
    apart = torch.rand(5, 15, generator=torch.Generator().manual_seed(2)) < 0.5
    apart[:, 7] = True
    for kind in DISTANCES:
        found = hardest(anchors, others, apart, kind)
        for row in range(5):
            allowed = [j for j in range(15) if apart[row, j]]
            far = [float(distance(anchors[row : row + 1], others[[j]], kind)) for j in allowed]
            assert int(found[row]) == allowed[far.index(min(far))]


def test_divergences_are_those_of_torch_and_have_their_bounds():
    first, second = random(30, 9, seed=0, scale=3), random(30, 9, seed=1, scale=3)
    p, q = F.log_softmax(first, -1), F.log_softmax(second, -1)

    def kl(x, y):  # KL(x || y)
        return F.kl_div(y, x, log_target=True, reduction="none").sum(-1)

    middle = ((p.exp() + q.exp()) / 2).log()
    torch.testing.assert_close(divergence(first, second, "kl"), (kl(p, q) + kl(q, p)) / 2)
    torch.testing.assert_close(divergence(first, second), (kl(p, middle) + kl(q, middle)) / 2)
    for kind in ("kl", "js"):
        torch.testing.assert_close(divergence(first, second, kind), divergence(second, first, kind))
        assert divergence(first, first, kind).abs().max() < 1e-12
    assert (divergence(first, second) <= math.log(2)).all()
    assert divergence(first.bfloat16(), second.bfloat16()).dtype == torch.float32


def test_embed_is_the_mean_or_the_last_of_each_sequences_tokens():
    lengths = (5, 1, 3)
    hidden = random(sum(lengths), 4)
    owner = torch.tensor([n for n, length in enumerate(lengths) for _ in range(length)])
    start = 0
    for n, length in enumerate(lengths):
        part = hidden[start : start + length]
        start += length
        for pool, wanted in (("mean", part.mean(0)), ("last", part[-1])):
            plain = embed(hidden, owner, 3, pool, normalize=False)[n]
            unit = embed(hidden, owner, 3, pool, normalize=True)[n]
            torch.testing.assert_close(plain, wanted)
            torch.testing.assert_close(unit, wanted / wanted.norm())
    assert embed(hidden.bfloat16(), owner, 3, "mean", normalize=True).dtype == torch.float32


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=5))
def test_padding_keeps_every_row_at_its_side(rows):
    for pad, right in ((pad_left, False), (pad_right, True)):
        padded = pad(rows, 0).tolist()
        assert {len(r) for r in padded} == {max(len(r) for r in rows)}
        for row, got in zip(rows, padded, strict=True):
            blank = [0] * (len(got) - len(row))
            assert got == (row + blank if right else blank + row)

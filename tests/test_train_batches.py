import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training import make_examples

from accord.models.reading import pack
from accord.train.batches import Batches, Sizes, how_often, plan_epoch

COUNTS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(COUNTS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_every_example_once_in_the_global_batch_of_any_layout(lengths, micro, steps, world, epoch):
    """However many processes and micro-batches: the same global batches, normalised by the same."""
    batch = micro * steps * world
    answers = [1 + n % 7 for n in lengths]
    alone = plan_epoch(lengths, answers, Sizes(batch, batch), seed=3, epoch=epoch)
    wanted = [(sorted(m.rows), m.tokens, m.examples) for m in alone]
    assert sorted(row for rows, _, _ in wanted for row in rows) == list(range(len(lengths)))
    shared = [
        plan_epoch(lengths, answers, Sizes(batch, micro, world, rank), seed=3, epoch=epoch, every=2)
        for rank in range(world)
    ]
    assert len({len(plan) for plan in shared}) == 1  # all take part in every pass
    got = []
    for start in range(0, len(shared[0]), steps):
        parts = [m for plan in shared for m in plan[start : start + steps]]
        rows = sorted(row for m in parts for row in m.rows)
        read = sorted(row for m in parts if m.second is not None for row in m.second)
        assert read == rows and all(len(m.rows) <= micro for m in parts)
        assert len({(m.tokens, m.examples) for m in parts}) == 1
        got.append((rows, parts[0].tokens, parts[0].examples))
    assert got == wanted
    for rows, tokens, examples in wanted:
        assert tokens == sum(answers[row] for row in rows) and examples == len(rows)
    due = [[m.second is None for m in plan] for plan in shared]
    assert all(d == due[0] for d in due)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_a_sampler_has_the_length_it_says(lengths, micro, steps, world):
    for rank in range(world):
        sizes = Sizes(micro * steps * world, micro, world, rank)
        batches = Batches(lengths, lengths, sizes, seed=0)
        assert len(list(batches)) == len(batches)


def test_another_epoch_or_seed_is_another_order():
    lengths = [5] * 40
    sizes = Sizes(8, 8)

    def order(seed, epoch):
        plan = plan_epoch(lengths, lengths, sizes, seed=seed, epoch=epoch)
        return [m.rows for m in plan]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


def test_micro_batches_hold_examples_of_like_length():
    lengths = random.Random(0).sample(range(1, 400), 64)
    plan = plan_epoch(lengths, lengths, Sizes(64, 8), seed=0, epoch=0)
    tops = [max(lengths[row] for row in m.rows) for m in plan]
    ends = [min(lengths[row] for row in m.rows) for m in plan]
    assert all(end >= top for end, top in zip(ends, tops[1:], strict=False))


@pytest.mark.parametrize(
    ("lengths", "seconds", "wanted"), [([300] * 4, [45] * 4, 4), ([300], [900], 1), ([300], [0], 8)]
)
def test_short_queries_of_several_micro_batches_are_read_together(lengths, seconds, wanted):
    assert how_often(lengths, seconds, 8 if wanted == 8 else 4) == wanted


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=50))
def test_packed_sequences_do_not_overlap(lengths):
    places = pack(lengths)
    width = max(128, *lengths)
    rows: dict = {}
    for (row, start), length in zip(places, lengths, strict=True):
        assert start + length <= width
        rows.setdefault(row, []).append((start, start + length))
    assert sorted(rows) == list(range(len(rows)))
    for spans in rows.values():
        spans.sort()
        assert spans[0][0] == 0
        assert all(a[1] == b[0] for a, b in pairwise(spans))
    # Two rows that are at most half full would be one.
    assert sum(sum(b - a for a, b in spans) <= width // 2 for spans in rows.values()) <= 1


def test_examples_hold_the_draw_of_their_epoch():
    data = make_examples(12)
    drawn = []
    for epoch in (0, 1, 2):
        data.epoch = epoch
        assert data.draw(5) == data.neighbours.draw(5, "q5", 0, epoch)
        plan = plan_epoch([9] * 12, [2] * 12, Sizes(12, 12), seed=0, epoch=epoch)
        batch = data.__getitems__(plan[0])
        anchors, positives, negatives = batch.branches
        for n, row in enumerate(plan[0].rows):
            near, far = data.draw(row)
            assert anchors[n] is data.examples[row]
            assert (positives[n], negatives[n]) == (data.examples[near], data.examples[far])
        drawn.append([data.draw(row) for row in range(12)])
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_the_partner_is_another_wording_of_the_same_question():
    data = make_examples(12, loss="pair", wordings=3)
    seen = set()
    for epoch in range(20):
        data.epoch = epoch
        for row, own in enumerate(data.examples):
            other = data.partner(row)
            assert other.original == own.original and other.prompt != own.prompt
            seen.add((own.name, other.name))
    assert len(seen) == 12 * 2  # each of the two others is drawn
    alone = make_examples(4, loss="pair", wordings=1)
    assert [alone.partner(row) for row in range(4)] == [None] * 4

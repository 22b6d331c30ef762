"""Which prompts share a batch."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from accord.generate.batches import grouped, in_batches

GROUPS = st.lists(st.integers(1, 7), max_size=12).map(
    lambda sizes: [[(n, i) for i in range(size)] for n, size in enumerate(sizes)]
)


@given(groups=GROUPS, size=st.integers(1, 9), repeat=st.integers(0, 3))
def test_every_item_once_in_order_and_no_batch_too_large(groups, size, repeat):
    batches = in_batches(groups, size, repeat)
    flat = [item for batch in batches for piece in batch for item in piece]
    assert flat == [item for group in groups for item in group]
    assert all(sum(map(len, batch)) <= size for batch in batches)
    assert all(piece for batch in batches for piece in batch)


@given(groups=GROUPS, size=st.integers(1, 9))
def test_a_group_that_fits_is_not_split(groups, size):
    pieces = [piece for batch in in_batches(groups, size) for piece in batch]
    assert [g for g in groups if len(g) <= size] == [
        p for p in pieces if len(groups[p[0][0]]) <= size
    ]


@given(groups=GROUPS, size=st.integers(1, 9))
def test_batches_are_filled(groups, size):
    """A batch ends only where the next piece does not fit."""
    batches = in_batches(groups, size)
    for batch, after in itertools.pairwise(batches):
        assert sum(map(len, batch)) + len(after[0]) > size


@given(groups=GROUPS, size=st.integers(1, 9), most=st.integers(1, 12))
def test_no_batch_is_more_than_fits_unless_one_item_is(groups, size, most):
    """Here an item costs 1, and each group of a batch 2."""

    def cost(batch):
        return sum(map(len, batch)) + 2 * len(batch)

    batches = in_batches(groups, size, fits=lambda batch: cost(batch) <= most)
    flat = [item for batch in batches for piece in batch for item in piece]
    assert flat == [item for group in groups for item in group]
    for batch in batches:
        items = sum(map(len, batch))
        assert items <= size and (cost(batch) <= most or items == 1)


def test_a_repeat_has_smaller_batches_even_where_one_holds_all():
    groups = [[n] for n in range(10)]
    flat = [[list(itertools.chain(*b)) for b in in_batches(groups, 6, r)] for r in range(3)]
    assert flat[0] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert flat[1] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert flat[2] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert in_batches([["a", "b", "c"]], 128, 1) == [[["a", "b"]], [["c"]]]


def test_items_with_one_key_are_together_in_order():
    keys = {"a": 1, "b": 2, "c": 1}
    assert grouped(keys, keys) == [["a", "c"], ["b"]]

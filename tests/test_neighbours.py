import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import InputError
from accord.train.neighbours import Neighbours, _best, find_neighbours


def brute_force(vectors, queries, originals):
    """Every pair in plain Python: rows by (similarity, row), filtered by the rules."""
    found = []
    for i, query in enumerate(queries):
        others = [
            (sum(float(x) * float(y) for x, y in zip(vectors[i], vectors[j], strict=True)), j)
            for j in range(len(queries))
            if queries[j] != query
        ]
        near = [j for _, j in sorted(others, key=lambda o: (-o[0], o[1]))][:10]
        strangers = [o for o in others if originals[o[1]] != originals[i]]
        far = [j for _, j in sorted(strangers)][:10]
        found.append((tuple(near), tuple(far)))
    return found


def there(rows):
    """The neighbours of a query, without the -1 of those that it lacks."""
    return tuple(int(row) for row in rows if row >= 0)


def collection(seed, count, *, questions=8, repeats=3):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = [f"query {i}" for i in range(count)]
    for _ in range(repeats):  # identical strings under different ids, with one vector
        i, j = rng.choice(count, 2, replace=False)
        queries[i], vectors[i] = queries[j], vectors[j]
    originals = [f"q{rng.integers(questions)}" for _ in range(count)]
    return vectors, queries, originals


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(21, 45), st.sampled_from([1, 7, 1024]))
def test_neighbours_are_those_of_brute_force(seed, count, block):
    vectors, queries, originals = collection(seed, count)
    got = find_neighbours(vectors, queries, originals, row_name="SEM", block=block)
    wanted = brute_force(vectors, queries, originals)
    for i, (near, far) in enumerate(wanted):
        # Equal similarities may be ordered by the last bit of fp32: compare the similarities.
        def similar(rows, i=i):
            return [float(vectors[i] @ vectors[j]) for j in rows]

        assert similar(there(got.nearest[i])) == pytest.approx(similar(near), abs=1e-6)
        assert similar(there(got.farthest[i])) == pytest.approx(similar(far), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(21, 45))
def test_never_itself_nor_its_string_and_no_negative_of_the_same_question(seed, count):
    vectors, queries, originals = collection(seed, count, repeats=6)
    got = find_neighbours(vectors, queries, originals, row_name="SEM")
    for i in range(count):
        assert all(queries[j] != queries[i] for j in (*got.nearest[i], *got.farthest[i]))
        assert all(originals[j] != originals[i] for j in got.farthest[i])
        assert len(got.nearest[i]) == len(set(got.nearest[i])) == 10
        assert list(got.nearest[i]) != list(got.farthest[i])


def test_another_wording_of_the_same_question_may_be_a_positive():
    vectors, queries, originals = collection(0, 30, repeats=0)
    vectors[1], originals[0], originals[1] = vectors[0], "same", "same"
    assert find_neighbours(vectors, queries, originals, row_name="SEM").nearest[0][0] == 1


def test_the_block_size_does_not_matter():
    vectors, queries, originals = collection(5, 64)
    results = [
        find_neighbours(vectors, queries, originals, row_name="ALL", block=b) for b in (3, 64, 1024)
    ]
    for other in results[1:]:
        assert (other.nearest == results[0].nearest).all()
        assert (other.farthest == results[0].farthest).all()


def test_a_tie_goes_to_the_earlier_row():
    vectors = np.tile(np.asarray([[1.0, 0.0]], dtype=np.float32), (25, 1))
    queries, originals = [f"query {i}" for i in range(25)], [f"q{i}" for i in range(25)]
    got = find_neighbours(vectors, queries, originals, row_name="SFT+TL")
    assert there(got.nearest[0]) == tuple(range(1, 11))
    assert there(got.farthest[24]) == tuple(range(10))


def test_fewer_than_21_queries_are_refused():
    vectors, queries, originals = collection(1, 21, repeats=0)
    find_neighbours(vectors, queries, originals, row_name="HTD")
    with pytest.raises(InputError, match=r"HTD has 20 training queries.*train\.loss=ce"):
        find_neighbours(vectors[:20], queries[:20], originals[:20], row_name="HTD")


@pytest.mark.parametrize("same", ["queries", "originals"])
def test_a_query_without_any_negative_is_refused(same):
    vectors, queries, originals = collection(2, 25, repeats=0)
    if same == "queries":
        queries = ["the same"] * 25
    else:
        originals = ["q0"] * 25
    with pytest.raises(InputError, match="no other query to be compared with"):
        find_neighbours(vectors, queries, originals, row_name="HTD")


TEN = Neighbours(np.tile(np.arange(10), (2, 1)), np.tile(np.arange(10, 20), (2, 1)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([64, 128, 640]))
def test_ties_anywhere_go_to_the_earlier_row(seed, levels, width):
    """Few distinct scores, so that most are ties; some are no neighbours at all."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (7, width)).astype(np.float32)
    scores[rng.random((7, width)) < 0.3] = -np.inf
    scores[6, 5:] = -np.inf
    got = _best(scores)
    for row, found in zip(scores, got, strict=True):
        wanted = [j for j in np.argsort(-row, kind="stable")[:10] if row[j] > -np.inf]
        assert there(found) == tuple(wanted)


def test_a_query_with_few_neighbours_draws_among_those_it_has():
    few = Neighbours(np.array([[4, 7, *[-1] * 8]]), np.array([[2, *[-1] * 9]]))
    drawn = {few.draw(0, f"q{i}", 0, 0) for i in range(200)}
    assert drawn == {(4, 2), (7, 2)}


def test_the_draw_depends_on_seed_epoch_and_id_alone():
    assert TEN.draw(0, "q1", 3, 1) == TEN.draw(1, "q1", 3, 1)  # not on the row
    assert TEN.draw(0, "q1", 3, 1) == TEN.draw(0, "q1", 3, 1)  # nor on a stream
    one = [TEN.draw(0, f"q{i}", 3, 1) for i in range(40)]
    for other in (
        [TEN.draw(0, f"q{i}", 4, 1) for i in range(40)],
        [TEN.draw(0, f"q{i}", 3, 2) for i in range(40)],
        [TEN.draw(0, f"p{i}", 3, 1) for i in range(40)],
    ):
        assert one != other


def test_the_draw_covers_all_ten_evenly_and_both_independently():
    drawn = [TEN.draw(0, f"q{i}", 0, 0) for i in range(3000)]
    near, far = (np.bincount(column, minlength=20) for column in zip(*drawn, strict=True))
    assert (near[:10] > 220).all() and near[10:].sum() == 0
    assert (far[10:] > 220).all() and far[:10].sum() == 0
    assert len(set(drawn)) == 100

"""Exact search: against brute force, whatever the blocks; ties in the order of the file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import InputError
from accord.records import Passage
from accord.retrieve.dense import dense, nearest


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def brute(queries, passages, k):
    """The k best rows of each query, one product at a time; ties by row."""
    found = []
    for q in queries.astype(np.float64):
        scores = [float((p * q).sum()) for p in passages.astype(np.float64)]
        found.append(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k])
    return found


# Few small whole numbers: many vectors are equal, and many scores.
vectors = st.lists(st.lists(st.integers(-1, 1), min_size=3, max_size=3), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(vectors, vectors, st.integers(1, 30), st.integers(1, 7), st.integers(1, 7))
def test_the_best_are_those_of_brute_force_whatever_the_blocks(q, p, k, rows, columns):
    queries, passages = unit(q), unit(p)
    found = list(nearest(queries, passages, k, block=(rows, columns)))
    assert [[n for n, _ in best][:k] for best in found] == brute(queries, passages, k)
    assert found == list(nearest(queries, passages, k))


def test_random_vectors_and_blocks_smaller_than_k():
    random = np.random.default_rng(0)
    queries = unit(random.standard_normal((37, 24)))
    passages = unit(random.standard_normal((501, 24)))
    wanted = brute(queries, passages, 10)
    for block in [(1, 1), (5, 7), (64, 100), (256, 8192)]:
        found = nearest(queries, passages, 10, block=block)
        assert [[n for n, _ in best] for best in found] == wanted


def test_scores_are_inner_products():
    queries, passages = unit([[1, 1, 0]]), unit([[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    ((best, second, last),) = nearest(queries, passages, 3)
    assert best == (1, pytest.approx(1.0, abs=1e-6))
    assert second == (0, pytest.approx(2**-0.5, abs=1e-6))
    assert last == (2, pytest.approx(0.0, abs=1e-6))


PASSAGES = [Passage(id=f"p{n}", text=f"about topic number {n}") for n in range(9)]


def search(passages, queries, encode, **options):
    return [[r.id for r in best] for best in dense(passages, queries, encode=encode, **options)]


def test_the_component_ranks_by_cosine(fake_encoder):
    queries = ["about topic number 4", "topic 7", "something else"]
    wanted = brute(fake_encoder.encode(queries), fake_encoder.encode([p.text for p in PASSAGES]), 4)
    found = search(PASSAGES, queries, fake_encoder.encode, k=4)
    assert found == [[f"p{n}" for n in best] for best in wanted]
    assert found[0][0] == "p4"


def test_equal_passages_follow_the_file_and_are_encoded_once():
    seen = []

    def encode(texts):
        seen.extend(texts)
        # Not quite equal vectors for equal texts, as batches of another length may give.
        noise = 1e-7 * np.arange(len(texts))[:, None]
        return unit([[len(t), 1.0] for t in texts] + noise)

    same = [Passage(id=f"s{n}", text="the same") for n in range(40)]
    assert search(same, ["a query"], encode, k=3) == [["s0", "s1", "s2"]]
    assert seen == ["the same", "a query"]


def test_title_and_prefixes_are_encoded_with_the_text():
    seen = []

    def encode(texts):
        seen.extend(texts)
        return unit(np.ones((len(texts), 2)))

    passages = [Passage(id="a", title="Billing", text="x"), Passage(id="b", text="y")]
    options = {"query_prefix": "query: ", "passage_prefix": "passage: "}
    search(passages, ["how?"], encode, k=1, **options)
    assert seen == ["passage: Billing\nx", "passage: y", "query: how?"]


def test_k_beyond_the_collection_gives_all(fake_encoder):
    assert len(search(PASSAGES, ["topic"], fake_encoder.encode, k=50)[0]) == len(PASSAGES)


def test_no_passages_are_refused_and_no_queries_are_none(fake_encoder):
    with pytest.raises(InputError, match=r"data\.passages: no passages"):
        search([], ["topic"], fake_encoder.encode, k=3)
    assert search(PASSAGES, [], fake_encoder.encode, k=3) == []

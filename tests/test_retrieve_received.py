"""What retrievers give: read, cleaned, and never the end of a run."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.records import Passage, Ranked
from accord.retrieve.received import Collection, Failure, clean, text_id, text_of

KNOWN = Collection([Passage(id=f"p{n}", text=f"text of passage {n}") for n in range(6)])


def read(found, k=3):
    return clean("a query", found, k, KNOWN)


def ids(found, k=3):
    return [r.id for r in read(found, k).passages]


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary()
)
names = st.sampled_from(["id", "_id", "text", "page_content", "score", "metadata", "title", "x"])
known_ids = st.sampled_from(["p0", "p1", "p2", "p5"])
junk = st.recursive(
    scalars | known_ids,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(names, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(junk, st.integers(1, 4))
def test_whatever_comes_is_a_ranking_that_can_be_used(found, k):
    got = read(found, k)
    assert len(got.passages) <= k
    keys = [(r.id, text_of(r)) for r in got.passages]
    assert len(set(keys)) == len(keys)
    for r in got.passages:
        assert math.isfinite(r.score)
        assert r.id in KNOWN.texts or text_of(r).strip()
    if isinstance(found, list | tuple):
        assert got.failed is None
        lost = [p for p in got.problems if p != "score"]
        assert len(got.passages) + len(lost) == len(found)  # each is kept or counted
    else:
        assert got.failed and got.passages == ()


@given(st.lists(known_ids, unique=True, max_size=4), st.sampled_from(range(5)))
def test_the_order_given_is_the_ranking_in_every_form(order, form):
    forms = [
        lambda i, n: i,
        lambda i, n: (i, float(n)),  # a distance: the least first
        lambda i, n: {"id": i, "score": -n},
        lambda i, n: {"_id": i, "_score": np.float32(n)},
        lambda i, n: {"text": KNOWN.texts[i]},
    ]
    found = [forms[form](i, n) for n, i in enumerate(order)]
    assert ids(found, k=9) == order
    assert read(found, k=9).problems == ()


def test_scores_are_kept_and_their_lack_is_told_by_place():
    got = read([("p0", 0.25), {"id": "p1"}, {"id": "p2", "score": np.float64(-3)}])
    assert [r.score for r in got.passages] == [0.25, 1 / 2, -3.0]
    assert got.problems == ()


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, "high", [1], True, 10**400])
def test_a_score_that_is_no_number_is_counted_and_the_passage_keeps_its_place(score):
    got = read([{"id": "p0", "score": 0.5}, {"id": "p1", "score": score}, "p2"])
    assert [r.id for r in got.passages] == ["p0", "p1", "p2"]
    assert got.passages[1].score == 1 / 2
    assert got.problems == ("score",)


def test_duplicates_unknown_ids_and_what_is_beyond_k_are_counted():
    got = read(["p0", "p0", "nowhere", {"id": "gone"}, "p1", {}, "p2", "p3", "p4"])
    assert [r.id for r in got.passages] == ["p0", "p1", "p2"]
    assert sorted(got.problems) == sorted(
        ["duplicate", "unknown", "unknown", "malformed", "beyond", "beyond"]
    )


def test_dropping_makes_room_for_what_comes_after():
    assert ids(["nowhere", "p1", "p1", "p2"], k=2) == ["p1", "p2"]


def test_a_text_of_its_own_stays_with_its_title():
    (own,) = read([{"id": "new", "text": "other words", "metadata": {"title": "T"}}]).passages
    assert (own.id, own.text, own.title) == ("new", "other words", "T")


def test_a_text_of_the_collection_is_not_repeated_and_another_one_counts():
    same, other = read(
        [{"id": "p0", "text": "text of passage 0"}, {"id": "p1", "text": "as of today"}]
    ).passages
    assert text_of(same) is None
    assert text_of(other) == "as of today"


def test_texts_without_an_id_of_ours_are_found_by_the_text():
    found = ["text of passage 4", {"id": "0b1c-uuid", "text": "text of passage 2"}, "some new text"]
    assert ids(found) == ["p4", "p2", text_id("some new text")]
    assert text_id("some new text") == text_id("some new text") != text_id("some other text")


def test_a_known_id_in_the_metadata_goes_before_a_strange_one():
    strange = {"id": "0b1c-uuid", "text": "other words", "metadata": {"id": "p3"}}
    assert ids([strange]) == ["p3"]


def test_a_single_word_that_is_no_id_is_an_unknown_id_and_not_a_text():
    assert read(["doc-17"]).problems == ("unknown",)


def test_numbers_are_ids():
    known = Collection([Passage(id="7", text="seven")])
    assert [r.id for r in clean("q", [7, (7, 0.5)], 3, known).passages] == ["7"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("<html></html>", "a str"),
        (b"[]", "a bytes"),
        ({"hits": []}, "a dict"),
        (None, "a NoneType"),
        (3, "a int"),
        ({"p1"}, "a set"),
        (Failure("timed out"), "timed out"),
    ],
)
def test_what_is_no_list_is_a_failure_that_says_what_it_is(found, said):
    got = read(found)
    assert said in got.failed and got.passages == ()


def test_our_own_records_pass_as_they_are():
    own = Ranked(id="p1", score=0.5)
    assert read([own]).passages == (own,)
    assert read([own]).problems == ()


@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        ("\ud83d", "malformed"),
        ({"id": "\ud83d"}, "malformed"),
        ({"text": "half \ud83d"}, "malformed"),
        ({"id": "x", "text": "half \ud83d"}, "unknown"),
        ({"id": 10**5000}, "malformed"),
    ],
)
def test_what_no_file_can_hold_is_dropped_and_counted(odd, problem):
    found = clean("q", [odd, "p1"], 3, KNOWN)
    assert [r.id for r in found.passages] == ["p1"] and found.problems == (problem,)
    titled = clean("q", [{"id": "x", "text": "all well", "title": "\ud83d"}], 3, KNOWN)
    (kept,) = titled.passages
    assert kept.model_extra == {"text": "all well"}
    assert clean("q", Failure("raised \ud83d"), 3, KNOWN).failed == "raised ?"


def test_numbers_of_numpy_are_ids_as_well():
    """An index such as FAISS gives its rows as such."""
    known = Collection([Passage(id=str(n), text=f"text {n}") for n in range(5)])
    found = [(np.int64(3), np.float32(0.5)), np.int32(1), {"id": np.uint8(2)}]
    assert [(r.id, r.score) for r in clean("q", found, 3, known).passages] == [
        ("3", 0.5), ("1", 0.5), ("2", 1 / 3),
    ]  # fmt: skip

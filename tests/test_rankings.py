"""Agreement of rankings against definitions written down plainly, and their properties."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from accord.rankings import jaccard, rbo, same_first, same_set

IDS = "abcdefghij"
RANKINGS = st.lists(st.sampled_from(IDS), unique=True, max_size=8)
REPEATING = st.lists(st.sampled_from("abcd"), max_size=8)
P = st.sampled_from([0.5, 0.8, 0.9, 0.98])
SCORES = (jaccard, rbo, same_first, same_set)


def brute_rbo(a, b, p, depth=4000):
    """RBO as the infinite sum it is defined by (equation 4), lists continued as eq. 32 assumes.

    Below the end of the shorter list the seen agreement X_s / s continues for the unseen ids;
    below the end of both, the agreement at depth l continues for ever.
    """
    short, long = sorted((a, b), key=len)
    s, l = len(short), len(long)  # noqa: E741
    total = 0.0
    for d in range(1, depth):
        at = min(d, l)
        shared = len(set(short[:at]) & set(long[:at]))
        if at > s:
            shared += (at - s) * len(set(short) & set(long[:s])) / s
        total += (1 - p) * p ** (d - 1) * shared / at
    return total


@given(RANKINGS, RANKINGS, P)
def test_rbo_is_the_infinite_sum(a, b, p):
    assume(a and b)
    assert rbo(a, b, p) == pytest.approx(brute_rbo(a, b, p), abs=1e-9)


def test_rbo_of_a_worked_example():
    # Depths 1, 2, 3: overlaps 0, 2, 2. (.5/.5) (0 + 1/4 * 2/2 + 1/8 * 2/3) + 2/3 * 1/8 = 5/12.
    assert rbo("abc", "bad", 0.5) == pytest.approx(5 / 12)
    # Lengths 1 and 3, shared: 1 in the long one's second place; X_s = 0, so nothing continues:
    # (0 + 1/2 * 1/4 + 1/3 * 1/8) + 1/3 * 1/8.
    assert rbo("b", "abc", 0.5) == pytest.approx(1 / 8 + 1 / 24 + 1 / 24)


@given(RANKINGS, RANKINGS)
def test_sets_against_a_count(a, b):
    assume(a or b)
    shared = sum(x in b for x in a)
    assert jaccard(a, b) == shared / (len(a) + len(b) - shared)
    assert same_set(a, b) == (sorted(a) == sorted(b))
    assert same_first(a, b) == bool(a and b and a[0] == b[0])


@pytest.mark.parametrize("score", SCORES)
@given(a=REPEATING, b=REPEATING)
def test_symmetric_and_within_bounds(score, a, b):
    assume(a or b)
    assert score(a, b) == score(b, a)
    assert 0 <= score(a, b) <= 1


@given(RANKINGS, RANKINGS)
def test_rbo_is_one_exactly_where_one_ranking_begins_with_the_other(a, b):
    assume(a and b)
    depth = min(len(a), len(b))
    assert (rbo(a, b) > 1 - 1e-12) == (a[:depth] == b[:depth])


@given(st.integers(2, 10), P)
def test_a_deeper_disagreement_costs_less(length, p):
    ranking = list(IDS[:length])
    scores = [
        rbo(ranking, [*ranking[:place], "new", *ranking[place + 1 :]], p) for place in range(length)
    ]
    assert all(early < late - 1e-9 for early, late in itertools.pairwise(scores))
    swapped = [
        rbo(ranking, [*ranking[:i], ranking[i + 1], ranking[i], *ranking[i + 2 :]], p)
        for i in range(length - 1)
    ]
    assert all(early < late for early, late in itertools.pairwise(swapped))
    assert jaccard(ranking, ranking[::-1]) == 1  # blind to what rbo sees


@given(RANKINGS, P)
def test_one_shared_passage_counts_more_the_earlier(a, p):
    assume(len(a) > 1)
    others = [f"other{i}" for i in range(len(a))]
    scores = [rbo(a, [*others[:i], a[i], *others[i + 1 :]], p) for i in range(len(a))]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] > 0


@pytest.mark.parametrize("score", SCORES)
def test_empty_rankings(score):
    assert math.isnan(score([], []))
    assert score(["a"], []) == score([], ["a"]) == 0


@given(REPEATING, RANKINGS)
def test_a_repeated_id_counts_at_its_better_place(a, b):
    once = list(dict.fromkeys(a))
    assume(a or b)
    for score in SCORES:
        assert score(a, b) == score(once, b)


@given(RANKINGS)
def test_sequences_of_any_kind(a):
    assume(a)
    for score in SCORES:
        assert score(a, tuple(a)) == 1


@pytest.mark.parametrize("p", [0, 1, -0.1, 1.5])
def test_persistence_out_of_range(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        rbo("ab", "ab", p)

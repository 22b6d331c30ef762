import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.evaluate.containment import containment
from accord.evaluate.guard import conflict
from accord.evaluate.words import STOP_WORDS, singular, words

WORDS = "you can cannot the fee fees refund 30 days not Open settings, Profile. naïve café why no"
texts = st.one_of(
    st.lists(st.sampled_from(WORDS.split()), max_size=8).map(" ".join), st.text(max_size=20)
)


def score(a, b, query="", **options):
    return containment([a], [b], queries=[query], **options)[0]


def overlap(a, b, query):
    """The definition, word by word."""
    sides = [
        {singular(w) for w in words(text) if w not in STOP_WORDS and singular(w) not in asked}
        for asked in [[singular(w) for w in words(query)]]
        for text in (a, b)
    ]
    smaller = min(map(len, sides))
    return sum(word in sides[1] for word in sides[0]) / smaller if smaller else math.nan


@given(texts, texts, texts)
def test_it_is_the_overlap_coefficient_of_masked_content_words(a, b, query):
    expected = 1.0 if a == b else overlap(a, b, query)
    assert score(a, b, query, guard=False) == pytest.approx(expected, nan_ok=True)


@given(texts)
def test_words_are_runs_of_word_characters(text):
    assert words(text) == re.findall(r"\w+", text.casefold())


@given(texts, texts, texts)
def test_it_is_symmetric_and_a_fraction_or_unscored(a, b, query):
    there, back = score(a, b, query), score(b, a, query)
    assert math.isnan(there) == math.isnan(back)
    assert math.isnan(there) or (there == back and 0 <= there <= 1)


@given(texts, texts)
def test_equal_texts_score_one(a, query):
    assert score(a, a, query) == 1.0


@given(texts, texts, texts)
def test_the_guard_sets_what_it_refuses_to_zero_and_leaves_the_rest(a, b, query):
    free = score(a, b, query, guard=False)
    expected = 0.0 if conflict(a, b, query) else free
    assert score(a, b, query) == pytest.approx(expected, nan_ok=True)


@given(texts, st.lists(st.sampled_from(["blue", "form", "clinic"]), min_size=1))
def test_an_answer_that_says_more_holds_the_shorter_one(a, more):
    assert score("blue form clinic", f"{a} blue form clinic {' '.join(more)}", guard=False) == 1.0


def test_words_of_the_question_do_not_count():
    a, b, query = (
        "The annual fee is waived.",
        "The annual fee is doubled.",
        "What is the annual fee?",
    )
    assert score(a, b) == pytest.approx(2 / 3)
    assert score(a, b, query) == 0.0
    assert math.isnan(score("The annual fee.", b, query))


def test_plurals_and_case_do_not_count():
    assert score("Refunds", "A REFUND") == 1.0
    assert score("several policies", "one policy, several") == 1.0


def test_no_content_words_are_unscored_but_refusals_are_not():
    scores = containment(
        ["It is.", "Yes.", "Yes.", "", "", "..."],
        ["They were.", "No.", "Of course.", "Press reset.", "", "???"],
        queries=[""] * 6,
    )
    assert scores.tolist() == pytest.approx([np.nan, 0, np.nan, 0, 1, np.nan], nan_ok=True)


def test_no_pairs_have_no_scores():
    assert containment([], [], queries=[]).shape == (0,)
    with pytest.raises(ValueError, match="shorter"):
        containment(["a"], ["b"], queries=[])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("fees", "fee"),
        ("policies", "policy"),
        ("boxes", "boxe"),
        ("bus", "bus"),
        ("glass", "glass"),
    ],
)
def test_singular_is_the_s_stemmer(word, expected):
    assert singular(word) == expected

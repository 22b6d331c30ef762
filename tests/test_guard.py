import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.evaluate.guard import conflict, conflicts
from accord.evaluate.numerals import read_numbers
from accord.evaluate.words import plain

LINES = (Path(__file__).parent / "data" / "guard.jsonl").read_text("utf-8").splitlines()
SET = [json.loads(line) for line in LINES]
REASONS = ("refusal", "yes_no", "numbers", "negation")
_TEXT = """
Yes, no No. not never cannot can't unless without nor until if but , . ; 1. 2) [3] 1,000 1.50 two
hundred and fifty thousand 9:30 5 pm 15th March W-9 30 days weeks I don't know context the passages
do mention fee open account sorry information free only impossible non-refundable
"""
TRIGGERS = _TEXT.split()
texts = st.one_of(
    st.lists(st.sampled_from(TRIGGERS), max_size=12).map(" ".join), st.text(max_size=30)
)


@settings(max_examples=500)
@given(texts, texts, texts)
def test_a_conflict_is_symmetric_and_has_a_known_reason(a, b, query):
    reason = conflict(a, b, query)
    assert reason in (None, *REASONS)
    assert conflict(b, a, query) == reason


@given(texts, texts)
def test_equal_texts_do_not_conflict(a, query):
    assert conflict(a, a, query) is None


@given(st.lists(st.tuples(texts, texts, texts), max_size=5))
def test_conflicts_are_those_of_each_pair(given_pairs):
    sides = [list(side) for side in zip(*given_pairs, strict=True)] or [[], [], []]
    assert conflicts(*sides) == [conflict(*pair) for pair in given_pairs]


def found(half):
    return [
        (pair, conflict(pair["first"], pair["second"], pair["query"]))
        for pair in SET
        if pair["half"] == half
    ]


def test_the_half_that_the_rules_were_made_with_is_right():
    assert [pair for pair, reason in found("tune") if reason != pair["reason"]] == []


def test_the_half_that_no_rule_was_made_with_is_right_but_for_two_pairs():
    wrong = [pair["first"] for pair, reason in found("held") if reason != pair["reason"]]
    assert wrong == [
        "Staff who are unable to find the form should call the office.",
        "No fees are charged for transfers.",
    ]


def test_each_half_holds_each_reason_and_as_many_paraphrases():
    for half in ("tune", "held"):
        reasons = [pair["reason"] for pair, _ in found(half)]
        assert set(reasons) == {*REASONS, None}
        assert 0.4 < reasons.count(None) / len(reasons) < 0.6


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("I don't know.", "No, 5 fees are not charged.", "refusal"),
        ("Yes, 3.", "No, not 4.", "yes_no"),
        ("The fee is 3.", "The fee is not 4.", "numbers"),
        ("The fee is 3.", "The fee is not 3.", "negation"),
    ],
)
def test_the_order_of_the_reasons(first, second, reason):
    assert conflict(first, second) == reason


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Fees are never charged.", "No fees are charged."),
        ("It is free.", "There is no fee."),
        ("The fee is 30 dollars for 2 weeks.", "The fee is $30 for 14 days."),
        ("It takes 24 hours.", "It takes one day."),
        ("Due on the 1st of March.", "Due on March 1."),
        ("Open 9 am to 5 pm.", "Open 9:00 to 17:00."),
        ("Two hundred and fifty people", "250 people"),
        ("Between two and three days", "2-3 days"),
        ("Drinks, snacks and pets are not allowed.", "Pets, snacks and drinks aren't allowed."),
        ("Do not pay until you get the letter.", "Pay after you get the letter."),
        ("You must not exceed 5 kg.", "At most 5 kg."),
        ("The policy does not cover theft, but it covers fire.", "It covers fire but not theft."),
        ("No.", "You can't use it."),
        ("See [1], [2].", "See the page."),
    ],
)
def test_paraphrases_pass(first, second):
    assert conflict(first, second) is None


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("There is a fee.", "There is no fee.", "negation"),
        ("Yes.", "You cannot.", "negation"),
        ("No.", "You can use it.", "negation"),
        ("It covers theft, but not fire.", "It covers fire but not theft.", "negation"),
        ("Due on the 15th of March.", "Due on the 16th of March.", "numbers"),
        ("Open until 5 pm.", "Open until 5 am.", "numbers"),
        ("Use form W-9.", "Use form W-4.", "numbers"),
        ("Based on the context, there is no information about it.", "It is red.", "refusal"),
        ("Unfortunately, the documents do not specify the fee.", "It is low.", "refusal"),
    ],
)
def test_contradictions_are_refused(first, second, reason):
    assert conflict(first, second) == reason


def test_a_refusal_with_an_answer_after_it_is_an_answer():
    hint = "The document does not mention the fee. Ask the bank."
    answer = "The document does not mention the fee. However, the account opens at once, by post."
    assert conflict(hint, "The fee is low.") == "refusal"
    assert conflict(answer, "I don't know.") == "refusal"
    assert conflict(hint, "I don't know.") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", "1000"),
        ("1.50", "1.5"),
        ("ninety-nine", "99"),
        ("twenty five thousand", "25000"),
        ("a dozen", "12"),
        ("1.5 million", "1500000"),
        ("three hundred and twelve", "312"),
        ("$20", "20"),
        ("USD20", "20"),
        ("5 pm", "17"),
        ("9:00", "9"),
        ("9:30", "9:30"),
        ("v4.1.1.2", "4.1.1.2"),
        ("١٢", "12"),
    ],
)
def test_numbers_are_normalised(text, value):
    (number,) = read_numbers(plain(text)).firm
    assert str(number) == str(value) or number == pytest.approx(float(value))


@given(st.integers(2, 10**12))
def test_thousands_separators_do_not_matter(number):
    assert read_numbers(f"{number:,} euros") == read_numbers(f"{number} euros")


def test_long_texts_are_read_in_time():
    first = "".join(f"not account{n}. " for n in range(7000))
    second = "".join(f"account{n} is {n},000. " for n in range(5000))
    assert conflict(first, second) in REASONS

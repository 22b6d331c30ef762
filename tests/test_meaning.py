"""The meaning guard: what a rewording may change and what it may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.vary.kinds import kinds
from accord.vary.language import language
from accord.vary.meaning import Limits, fold, meaning
from accord.vary.named import lost, named, spacy_entities
from accord.vary.polarity import polarity_differs
from accord.vary.quantities import quantities

SAME = [
    ("How do I enable two-factor login?", "Steps to turn on 2-factor sign in"),
    ("Is there a DMV office open on Sunday?", "Is any Department of Motor Vehicles open Sundays?"),
    ("How do I reset my password?", "I forgot my password, how can I set a new one?"),
    ("I can't log in to the portal", "Login to the portal fails"),
    ("Why isn't my card accepted?", "Why does it say denied when I use my card?"),
    ("What does error E-1042 mean?", "meaning of error E1042"),
    ("Where can I download the 10GB file?", "In what place is the 10 GB file to download?"),
    ("How do I install Node.js on Windows?", "nodejs installation on windows, how?"),
    ("Can I pay within 30 days?", "Is it possible to pay inside a 30-day window?"),
    ("Paris hotels under $1,200?", "Which hotels in Paris are under 1200 dollars?"),
    ("When was the bridge built?", "In what year did they build the bridge?"),
    ("Who wrote the manual?", "Which author is the manual by?"),
    ("How do I get from the pier to the zoo?", "To the zoo from the pier, how?"),
    ("Was the Malaysian plan adopted?", "Did they adopt the plan of Malaysia?"),
    ("CAN I BRING A DOG?", "Am I allowed to bring a dog?"),
    ("Could you tell me where the gym is?", "Where is the gym?"),
    ("Do I pay when I leave?", "Is the fee due once I leave?"),
    ("I don t have a key. Can I get in?", "I have no key. May I get in?"),
    ("Is there a way to merge cells?", "How do I merge cells?"),
    ("\u00bfC\u00f3mo puedo pagar la multa?", "\u00bfDe qu\u00e9 manera se puede pagar la multa?"),
]
OTHER = [
    ("How do I enable it?", "How do I disable it?", "opposites: disable / enable"),
    ("How do I log in to the shop?", "How do I log out of the shop?", "opposites"),
    ("Should I turn the sync off?", "Should I turn on the sync?", "opposites: turn"),
    ("Do I pay before I move in?", "Do I pay after I move in?", "opposites: after / before"),
    ("Who won the first race?", "Who won the 2nd race?", "opposites"),
    ("Are you open on monday?", "Are you open on friday?", "opposites"),
    ("How do I convert PDF to Word?", "How do I convert Word to PDF?", "exchanged"),
    ("upgrade from 4.1 to 4.2", "upgrade from 4.2 to 4.1", "exchanged"),
    ("Do cats eat more than dogs?", "Do dogs eat more than cats?", "exchanged"),
    ("Can I bring a dog?", "Can I not bring a dog?", "a negation is lost or added"),
    ("Can I travel without a pass?", "Can I travel on a pass?", "a negation"),
    ("Why does it no longer start?", "Why does it start?", "a negation"),
    ("Can I pay in 30 days?", "Can I pay in 30 months?", "another unit: 30"),
    ("Is 5 the limit?", "Is 5 GB the limit?", "a unit is lost or added: 5"),
    ("Is one month enough?", "Is a few months enough?", "a number is lost or added: 1"),
    ("Can 2 people share?", "Can people share?", "a number is lost or added: 2"),
    ("Is it free for the over 65s?", "Is it free for the over 60s?", "a number or code|lost"),
    ("Which hotels in Paris are open?", "Which hotels in Rome are open?", "name or code"),
    ("What is C++?", "What is C#?", "name or code"),
    ("How do I use `git pull`?", "How do I use `git push`?", "name or code"),
    ("Does it run on IPv6?", "Does it run on IPv4?", "name or code"),
    ('What does "lost" mean?', 'What does "found" mean?', "name or code"),
    ("Do I need form W-9?", "Do I need form W-4?", "name or code"),
    ("Can I change my plan?", "How can I change my plan?", "asks for something else"),
    ("When is rent due?", "Where is rent due?", "asks for something else: time / place"),
    ("Who pays the fine?", "Why pay the fine?", "asks for something else"),
    ("How do I pay?", "Wie kann ich das bezahlen?", "another language: English / German"),
    ("How do I pay?", "\u041a\u0430\u043a \u0442\u0443\u0442?", "language: latin / cyrillic"),
    ("How do I pay?", "how do I pay", "repeats the query"),
    ("How do I pay a bill?", "How do I pay the bill", "repeats the query"),
    ("Pay?", "What would be the very best way for me to pay for it?", "length ratio"),
    ("How do I pay?", " ", "empty"),
    ("How do I pay?", "How do I \x07 pay it?", "control"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "candidate"), SAME)
def test_a_rewording_passes_both_ways(query, candidate):
    assert meaning(query, candidate) is None
    assert meaning(candidate, query) is None


@pytest.mark.parametrize(("query", "candidate", "reason"), OTHER)
def test_another_question_is_turned_down_with_its_reason(query, candidate, reason):
    found = meaning(query, candidate)
    assert found and any(part in found for part in reason.split("|")), found


@pytest.mark.parametrize(("query", "candidate", "reason"), OTHER[:-2])
def test_the_guard_is_symmetric(query, candidate, reason):
    assert meaning(candidate, query)


def test_similarity_has_a_least_and_a_greatest_value_and_none_is_not_looked_at():
    limits = Limits(threshold=0.6, identical=0.9)
    pair = SAME[2]
    assert meaning(*pair, similarity=0.6, limits=limits) is None
    assert meaning(*pair, similarity=0.9, limits=limits) is None
    assert meaning(*pair, similarity=0.59, limits=limits) == "similarity 0.590 below 0.6"
    assert meaning(*pair, similarity=0.91, limits=limits) == "similarity 0.910 above 0.9"
    assert meaning(*pair, similarity=float("nan"), limits=limits) is not None


def test_what_is_kept_already_says_nothing_new():
    query, candidate = SAME[2]
    assert meaning(query, candidate, kept=["x"]) is None
    assert meaning(query, candidate, kept=[candidate.upper()]) == "repeats another wording"


def test_spacys_entities_see_a_name_where_a_capital_says_nothing():
    entities = spacy_entities()
    pair = ("London is how far away?", "Berlin is how far away?")
    assert entities is not None
    assert meaning(*pair) is None
    assert meaning(*pair, entities=entities) == "a name or code is lost or added: london"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("two of 1,000 and 3.50%", {"2": {""}, "1000": {""}, "3.5": {"%"}}),
        ("30 days, a 30-day window, 30d", {"30": {"day"}}),
        ("$5, 5 dollars, 5 USD", {"5": {"$"}}),
        ("1.5k and 3 million", {"1500": {""}, "3000000": {""}}),
        ("form W-9, IPv6, MP3, 4xx and the one", {}),
        ("version v2.10 at 10:30 on 01/02/2023", {"2.1": {""}, "10:30": {""}, "01/02/2023": {""}}),
        ("4.1.1.10", {"4.1.1.10": {""}}),
        ("none", {}),
    ],
)
def test_quantities(text, found):
    assert quantities(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("How do I open Acme Mail?", {"acme", "mail"}),
        ("How To Open The Acme Mail", set()),
        ("HOW DO I OPEN IT", set()),
        ("How do I run `ls -a` in U.S. shops?", {"ls", "a", "us"} - {"a"}),
        ("what is node.js, C++ or snake_case", {"nodejs", "c++", "snakecase"}),
        ("Is it 10 GB? Maybe.", set()),
        ("I am a user. We pay.", set()),
    ],
)
def test_named(text, found):
    assert named(text) == found


def test_an_acronym_and_its_words_are_one_in_any_direction():
    pair = ("Is the FAA open?", "Is the Federal Aviation Administration open?")
    assert lost(*pair) is None and lost(*reversed(pair)) is None
    assert lost("Is the FDA open?", pair[1]) == "fda"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("How do I pay?", {"procedure"}),
        ("How long does it take?", {"extent"}),
        ("Which is it?", set()),
        ("I lost it. Do I pay? When does it close?", {"yes or no", "time"}),
        ("When I leave, do I pay?", {"yes or no"}),
        ("How many cars, vans too, can I park?", {"number"}),
        ("How is it possible to park?", {"procedure"}),
        ("I need info about the zoo", {"information"}),
        ("Do you know if it is open?", {"yes or no"}),
        ("Can you help me?", set()),
        ("the opening hours", set()),
    ],
)
def test_kinds(text, found):
    assert kinds(text) == found


def test_language_is_named_only_where_it_is_plain():
    assert language("what is the fee for this?") == "English"
    assert language("ou est le bureau et les horaires") == "French"
    assert language("pizza taxi hotel") == ""


def test_no_rewording_of_words_without_negation_denies():
    assert polarity_differs("not only A but B", "A and B") is None
    assert polarity_differs("whether or not it rains", "if it rains") is None


def test_fold_keeps_the_signs_that_make_a_word():
    assert fold("How do I pay the  bill ?") == fold("how do i pay a bill")
    for one, other in APART:
        assert fold(one) != fold(other)


APART = [
    ("C++", "C#"),
    ("C", "C++"),
    (".NET", "net"),
    ("$5", "5"),
    ("4.1", "41"),
    ("don't", "dont"),
    ("--all", "all"),
    ("a/b", "a b"),
    ("\U0001f600", "\U0001f622"),
]

TEXT = st.text(max_size=60) | st.sampled_from([text for pair in SAME for text in pair])


@given(TEXT, TEXT)
def test_any_two_texts_get_a_reason_or_none_and_a_text_repeats_itself(one, other):
    found = meaning(one, other)
    assert found is None or found.strip()
    if (
        one.strip()
        and meaning(one, one) != "empty, longer than a query, or with control characters"
    ):
        assert meaning(one, one) == "repeats the query"


@given(TEXT)
def test_folding_twice_is_folding_once(text):
    assert fold(fold(text)) == fold(text)


@given(st.integers(2, 10**6), st.integers(2, 10**6), st.sampled_from(["days", "GB", "%", ""]))
def test_a_number_is_kept_or_it_is_another_question(one, other, unit):
    query, candidate = f"Is {one} {unit} enough here?", f"Would {other} {unit} do here?"
    assert (meaning(query, candidate) is None) == (one == other)


@given(st.sampled_from(SAME), st.sampled_from(["not", "never"]))
def test_a_negation_put_before_the_last_word_is_seen(pair, word):
    query = pair[0]
    if polarity_differs(query, query) is None and "n't" not in query and "can't" not in query:
        head, last = query.rsplit(" ", 1)
        assert polarity_differs(query, f"{head} {word} {last}") == "a negation is lost or added"


def test_100_000_characters_are_no_rewording_and_take_no_time():
    assert meaning("How do I pay?", "x" * 100_000).startswith("empty, longer")

"""How-to frames and I/we: what changes, what must not, and what is skipped."""

import pytest

from accord.records import Question
from accord.vary.outcome import Skip
from accord.vary.rules import how_to_do, i_we


def one(component, query, seed=0, id="q"):
    (outcome,) = list(component([Question(id=id, query=query)], seed=seed))
    return outcome


def wordings(query):
    """All wordings that some seed gives."""
    return {one(how_to_do, query, seed)[0].query for seed in range(40)}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "How do I change my password?",
            {"How to change my password?", "How can I change my password?"},
        ),
        ("how can we drive", {"how to drive", "how do we drive"}),
        ("How to reset my router", {"How do I reset my router", "How can I reset my router"}),
        ("How to pay our staff?", {"How do we pay our staff?", "How can we pay our staff?"}),
        (
            "How To Check Your Claim",
            {"How Do You Check Your Claim", "How Can You Check Your Claim"},
        ),
        ("how do i pay", {"how to pay", "how can i pay"}),
        (
            "How do I know whether it works?",
            {"How to know whether it works?", "How can I know whether it works?"},
        ),
        (
            "how might one sort a list",
            {"how to sort a list", "how can one sort a list"},
        ),
        (
            "How should we not lose data?",
            {"How to not lose data?", "How do we not lose data?", "How can we not lose data?"},
        ),
        ("How can I be sure of my plan?", {"How to be sure of my plan?"}),
        (
            "The lamp broke. How do I mend it?",
            {"The lamp broke. How to mend it?", "The lamp broke. How can I mend it?"},
        ),
        (
            "I got a ticket, how do I pay it?",
            {"I got a ticket, how to pay it?", "I got a ticket, how can I pay it?"},
        ),
        ("How do I do a backup?", {"How to do a backup?", "How can I do a backup?"}),
    ],
)
def test_how_to_frames(query, expected):
    assert wordings(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "how do I do I", "a guide on how to bake", "How to's for bakers", "How much is it?",
        "how does X work", "How to guide for bakers", "how do you do?", "How to?", "",
        "Tell me how to bake.", "Can you explain how do I bake?", "How do you feel about tax?",
        "How do I look?", 'What does "How do I bake" mean?', "How would you rate it?",
        "How do I bake and how do we eat?", "How to bake and where to eat?", "how to baking bread",
        "How do I bake and what do I need?", "`how to bake`", "How would I have known?",
    ],
)  # fmt: skip
def test_no_how_to_frame(query):
    outcome = next(how_to_do([Question.model_construct(id="q", query=query)], seed=0))
    assert isinstance(outcome, Skip)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("can we drive", "can I drive"),
        ("How do I change my password?", "How do we change our password?"),
        ("Am I able to pay with my card?", "Are we able to pay with our card?"),
        ("Are we allowed to park?", "Am I allowed to park?"),
        ("If I am late, can I still join?", "If we are late, can we still join?"),
        ("What should I do if I'm late?", "What should we do if we're late?"),
        ("Where can we see what we've paid?", "Where can I see what I've paid?"),
        ("May I do it myself?", "May we do it ourselves?"),
        ("Do I need Schedule I?", "Do we need Schedule I?"),
        ("Can I read about World War I here?", "Can we read about World War I here?"),
        ("How do I mend my iPhone I/O port?", "How do we mend our iPhone I/O port?"),
        ("How Can I Pay?", "How Can We Pay?"),
        ('Can I type "I agree"?', 'Can we type "I agree"?'),
        ("Can I move to the US?", "Can we move to the US?"),
        ("The shop is shut. Can we pay later?", "The shop is shut. Can I pay later?"),
    ],
)
def test_i_we(query, expected):
    assert one(i_we, query)[0].query == expected


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("I have a broken phone. How do I mend it?", "states a fact in the first person"),
        ("I have a broken phone, how do I mend it?", "states a fact in the first person"),
        ("Can I apply, I lost my job?", "states a fact in the first person"),
        ("Can I apply because I lost my job?", "states a fact in the first person"),
        ("Why did I get a letter?", "states a fact in the first person"),
        ("What is Type I?", "no question in the first person"),
        ("How to bake bread?", "no question in the first person"),
        ("Can I do what we did?", "both I and we"),
        ("Am I a veteran?", "describes the asker"),
        ("Can I apply as a student?", "describes the asker"),
        ("Can I add my wife?", "speaks of what one person or one group has"),
        ("Can we drive together?", "speaks of what one person or one group has"),
        ("What could I do if I were late?", "agreement is not safe"),
        ("are I allowed", "agreement is not safe"),
        ("are we've allowed", "agreement is not safe"),
        ("How do I sign the Blue Note I want?", "unclear whether I is a pronoun"),
        ("Is it the type I need?", "unclear whether I is a pronoun"),
    ],
)
def test_i_we_skips(query, reason):
    assert one(i_we, query) == Skip(reason)


def test_the_span_says_what_changed():
    assert one(i_we, "Where can I go?")[0][1:] == ("i_we", "I", "we", 10)
    rewording = one(how_to_do, "Hi, how to bake my cake", seed=1)[0]
    assert rewording.before == "to" and rewording.after in {"do I", "can I"}
    assert rewording.start == len("Hi, how ")


@pytest.mark.parametrize("component", [how_to_do, i_we])
def test_order_does_not_matter(component):
    texts = ["How do I bake?", "How to fry my fish?", "Can we go?", "What is rye?"]
    questions = [Question(id=str(i), query=text) for i, text in enumerate(texts)]
    forward = list(component(questions, seed=3))
    assert list(component(questions[::-1], seed=3))[::-1] == forward

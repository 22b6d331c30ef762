import math
import re
from collections import Counter

import pytest
from conftest import make_wordings
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import InputError
from accord.records import Passage, Wording
from accord.retrieve.bm25 import bm25
from accord.retrieve.stage import retrieve

STOP = re.findall(
    r"\w+",
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with",
)


def words(text):
    return [w for w in re.findall(r"(?u)\b\w\w+\b", text.lower()) if w not in STOP]


def lucene(passages, query, k1=1.5, b=0.75):
    """BM25 as in Lucene 8 (Kamphuis et al. 2020), word by word."""
    docs = [words(f"{p.title or ''} {p.text}") for p in passages]
    N, avg = len(docs), sum(map(len, docs)) / len(docs)
    scores = []
    for doc in docs:
        counts, score = Counter(doc), 0.0
        for term in words(query):
            df = sum(term in d for d in docs)
            if df:
                idf = math.log(1 + (N - df + 0.5) / (df + 0.5))
                tf = counts[term]
                score += idf * tf / (tf + k1 * (1 - b + b * len(doc) / avg))
        scores.append(score)
    return scores


def ranked(passages, query, k=1000, **options):
    (found,) = bm25(passages, [query], k=k, **options)
    return found


QUERIES = [
    "How do I close a team workspace?",
    "export invoices as PDF and export the rest",
    "account",
    "We're done with our team's workspace; what now?",
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("options", [{}, {"k1": 0.9, "b": 0.4}, {"b": 0.0}, {"k1": 3.0, "b": 1.0}])
def test_scores_are_those_of_the_lucene_formula(query, options, helpdesk_passages):
    wanted = lucene(helpdesk_passages, query, **options)
    got = {r.id: r.score for r in ranked(helpdesk_passages, query, **options)}
    assert got
    for passage, score in zip(helpdesk_passages, wanted, strict=True):
        assert got.get(passage.id, 0.0) == pytest.approx(score, rel=1e-4, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["red", "blue", "green", "cold"]), max_size=6), min_size=1),
    st.lists(st.sampled_from(["red", "blue", "green", "cold", "warm", "the"]), max_size=5),
    st.integers(1, 8),
)
def test_any_collection_is_ranked_by_score_then_file(texts, query, k):
    passages = [Passage(id=str(i), text=" ".join(["x", *t])) for i, t in enumerate(texts)]
    found = ranked(passages, " ".join(query), k=k)
    scores = lucene(passages, " ".join(query)) if any(texts) else [0.0] * len(texts)
    wanted = [i for i, score in enumerate(scores) if score > 0]
    assert len(found) == min(k, len(wanted))
    got = [(-round(r.score, 5), int(r.id)) for r in found]
    assert got == sorted(got)
    for r in found:
        assert r.score == pytest.approx(scores[int(r.id)], rel=1e-4)


def test_ties_follow_the_file():
    passages = [Passage(id=f"p{i}", text="the same words here") for i in range(40)]
    assert [r.id for r in ranked(passages, "same words", k=5)] == [f"p{i}" for i in range(5)]


def test_a_title_counts_and_a_missing_one_is_no_word():
    passages = [Passage(id="a", title="Billing", text="x y"), Passage(id="b", text="none at all")]
    assert [r.id for r in ranked(passages, "billing")] == ["a"]
    assert ranked(passages, "None")[0].id == "b"  # a word of the text, not a missing title
    assert len(ranked(passages, "None")) == 1


@pytest.mark.parametrize("query", ["zebra quagga", "the of and", "?!", "x", "日本語"])
def test_a_query_without_a_known_word_gets_nothing(query, helpdesk_passages):
    assert ranked(helpdesk_passages, query) == ()


def test_unknown_words_beside_known_ones_change_nothing(helpdesk_passages):
    assert ranked(helpdesk_passages, "zebra account") == ranked(helpdesk_passages, "account")


def test_k_larger_than_the_collection_gives_what_there_is():
    passages = [Passage(id=str(i), text=f"word number{i}") for i in range(3)]
    assert len(ranked(passages, "word", k=50)) == 3


@pytest.mark.parametrize("text", ["the", "?!", "a"])
def test_passages_without_a_single_word_are_found_by_nothing(text):
    assert ranked([Passage(id="p", text=text)], "account") == ()
    passages = [Passage(id="p", text=text), Passage(id="q", text="account")]
    assert [r.id for r in ranked(passages, "the account")] == ["q"]


def test_the_stage_retrieves_for_every_wording_anew(helpdesk_passages):
    wordings = make_wordings(3)
    found = retrieve(wordings, helpdesk_passages, k=2)
    assert [(g.id, g.original_id) for g in found] == [(w.id, w.original_id) for w in wordings]
    for wording, grounded in zip(wordings, found, strict=True):
        assert grounded.passages == ranked(helpdesk_passages, wording.query, k=2)


def test_the_stage_passes_options_on_and_fills_nothing_in(helpdesk_passages):
    asked = [
        Wording(id="q", original_id="q", type=None, query="zebra", split="test"),
        Wording(id="r", original_id="r", type=None, query="close account", split="test"),
    ]
    empty, found = retrieve(asked, helpdesk_passages, k=3, options={"k1": 0.5, "b": 0.1})
    assert empty.passages == ()
    assert found.passages == ranked(helpdesk_passages, "close account", k=3, k1=0.5, b=0.1)


def test_no_passages_are_refused():
    with pytest.raises(InputError, match=r"data\.passages: no passages"):
        retrieve(make_wordings(1), [])

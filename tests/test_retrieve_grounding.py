"""How steady the passages are, canonical queries, and passages that the user brings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrieving import POOL, grounding, scripted_retriever

from accord.config import Retrieve
from accord.grounding import Search, by_word, ground
from accord.progress import SILENT
from accord.rankings import rbo
from accord.records import Passage, Question, Wording
from accord.retrieve.bm25 import bm25
from accord.retrieve.consistency import (
    by_kind,
    consistency,
    gold_passages,
    sentence,
    text_table,
)
from accord.retrieve.received import text_id
from accord.vary.canonical import canonical


@pytest.fixture
def scripted():
    with scripted_retriever() as made:
        yield made


# Consistency


ROWS = [
    grounding("q", "q", "a", "b", "c"),
    grounding("v1", "q", "a", "b", "c"),
    grounding("v2", "q", "b", "x", "y"),
    grounding("v3", "q"),
    grounding("v4", "q", failed="timed out"),
    grounding("r", "r"),
    grounding("w1", "r"),
    grounding("w2", "r", "a"),
]
TYPES = {"v1": "i_we", "v2": "semantic", "v3": "semantic", "v4": "i_we", "w1": "i_we", "w2": "i_we"}


def test_consistency_by_hand():
    found = {row.id: row for row in consistency(ROWS, TYPES, {"q": {"b", "z"}, "r": {"a"}})}
    values = {
        id_: (row.jaccard, row.rbo, row.same_first, row.gold, row.gold_original)
        for id_, row in found.items()
    }
    assert values == {
        "v1": (1.0, pytest.approx(1.0), 1.0, True, True),
        "v2": (0.2, pytest.approx(rbo(["b", "x", "y"], ["a", "b", "c"])), 0.0, True, True),
        "v3": (0.0, 0.0, 0.0, False, True),
        "v4": (None, None, None, None, None),  # a failed query says nothing
        "w1": (None, None, None, False, False),  # two empty rankings
        "w2": (0.0, 0.0, 0.0, True, False),
    }


def test_means_by_kind_leave_out_what_says_nothing():
    table = by_kind(consistency(ROWS, TYPES, {"q": {"b", "z"}, "r": {"a"}}))
    assert list(table) == ["all", "i_we", "semantic"]
    assert (table["all"]["n"], table["all"]["questions"]) == (6, 2)
    assert table["all"]["jaccard"] == pytest.approx((1 + 0.2 + 0 + 0) / 4)
    assert (table["all"]["kept"], table["all"]["had"]) == (pytest.approx(2 / 3), 3)
    assert table["i_we"]["gold"] == pytest.approx(2 / 3)
    assert table["semantic"]["kept"] == 0.5
    assert "gold passage kept in 0.667 of 3" in sentence(table, 3)
    lines = text_table(table).splitlines()
    assert [line.split()[0] for line in lines] == ["rewordings", "all", "i_we", "semantic"]
    assert len({len(line) for line in lines}) == 1


def test_without_rewordings_or_gold_the_sentence_says_so():
    assert "no rewordings" in sentence(by_kind([]), 3)
    table = by_kind(consistency(ROWS, TYPES, {}))
    assert table["all"]["kept"] is None and "gold" not in sentence(table, 3)


def test_gold_passages_come_by_id_else_by_text():
    questions = [
        Question(id="a", query="?", context_ids=("p1",), contexts=("text 2",)),
        Question(id="b", query="?", contexts=("text 3", "strange text")),
        Question(id="c", query="?"),
    ]
    assert gold_passages(questions, POOL) == {
        "a": {"p1"},
        "b": {"p3", text_id("text 3"), text_id("strange text")},
    }


# Canonical queries

NOUNS = ["Invoices", "accounts", "indices", "statuses", "(PDFs)", "add-ons", "we", "our", "news"]


def test_the_words_of_passages_are_reduced_as_those_of_queries():
    assert by_word("We export Invoices (PDFs), and delete accounts.") == (
        "i export invoice pdf and delete account"
    )


@given(st.lists(st.sampled_from(NOUNS), min_size=1))
def test_words_of_a_canonical_form_are_found_in_the_reduced_passage(nouns):
    text = " ".join(nouns)
    form = set(canonical(f"Where are {text}?").split())
    assert form - {"where", "is", "am"} <= set(by_word(text).split())


def test_bm25_searches_reduced_passages_for_canonical_queries():
    passages = [Passage(id="a", text="Invoices and accounts"), Passage(id="b", text="An apple")]
    assert list(bm25(passages, ["invoice"], k=1)) == [()]
    ((found,),) = bm25(passages, ["invoice"], by_word, k=1)
    assert found.id == "a"


def searching(scripted, tmp_path, notes, query="own"):
    settings = Retrieve.model_validate({"type": "scripted", "k": 2, "query": query})
    return Search(settings, POOL, None, tmp_path, notes.append, SILENT)


WORDINGS = [
    Wording(id="q", original_id="q", type=None, query="How do I close accounts?", split="test"),
    Wording(id="v", original_id="q", type="t", query="how to close an account", split="test"),
    Wording(id="r", original_id="r", type=None, query="Where is it?", split="train"),
]
TEST = WORDINGS[:2]
FORM = canonical(WORDINGS[0].query)


def test_own_queries_are_searched_as_they_are_and_forms_apart(scripted, tmp_path):
    scripted.script = {FORM: ["p3"]}
    contexts, forms = ground(WORDINGS, TEST, [], searching(scripted, tmp_path, []))
    assert scripted.seen == [*(w.query for w in WORDINGS), FORM]
    assert scripted.levels == [None, by_word]
    assert [(g.id, g.passages[0].id) for g in contexts] == [("q", "p0"), ("v", "p0"), ("r", "p0")]
    assert [(g.id, g.passages[0].id) for g in forms] == [("q", "p3"), ("v", "p3")]


def test_canonical_retrieval_searches_forms_alone(scripted, tmp_path):
    scripted.script = {FORM: ["p3"]}
    search = searching(scripted, tmp_path, [], "canonical")
    contexts, forms = ground(WORDINGS, TEST, [], search)
    assert scripted.seen == [FORM, canonical("Where is it?")]
    assert scripted.levels == [by_word]
    assert [g.passages[0].id for g in contexts] == ["p3", "p3", "p0"]
    assert forms == contexts[:2]


def test_passages_of_the_user_are_taken_as_they_are(scripted, tmp_path):
    given_ = [
        grounding("v", "q", "p4", "p4", "p3", "p2", "p1"),
        grounding("elsewhere", "x", "p1"),
    ]
    notes = []
    search = searching(scripted, tmp_path, notes)
    contexts, forms = ground(WORDINGS, TEST, given_, search)
    assert contexts[1] == given_[0]
    assert scripted.seen == [WORDINGS[0].query, WORDINGS[2].query]
    assert forms is None
    assert any("1 of 3 wordings have the passages given there, 2 are retrieved" in n for n in notes)
    assert any("1 entries are of no wording" in n and "`elsewhere`" in n for n in notes)
    assert any("NAME+canonical are left out" in n for n in notes)


def test_passages_for_training_wordings_alone_leave_the_canonical_rows(scripted, tmp_path):
    given_ = [grounding("r", "r", "p4")]
    contexts, forms = ground(WORDINGS, TEST, given_, searching(scripted, tmp_path, []))
    assert contexts[2] == given_[0] and [g.id for g in forms] == ["q", "v"]


def test_where_all_is_brought_nothing_is_searched(scripted, tmp_path):
    given_ = [grounding(w.id, w.original_id, "p4") for w in WORDINGS]
    contexts, forms = ground(WORDINGS, TEST, given_, searching(scripted, tmp_path, []))
    assert contexts == given_ and forms is None and scripted.seen == []

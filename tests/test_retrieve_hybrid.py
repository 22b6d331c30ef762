"""Reciprocal rank fusion, by hand and against the formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import InputError
from accord.records import Ranked
from accord.retrieve.asking import ask, asks_for
from accord.retrieve.hybrid import fuse, hybrid
from accord.retrieve.received import Failure, Ranking


def ranking(*ids, failed=None):
    passages = tuple(Ranked(id=i, score=9.0 - n) for n, i in enumerate(ids))
    return Ranking(query="q", passages=passages, failed=failed)


def test_a_hand_calculated_example():
    found = fuse([ranking("a", "b", "c"), ranking("c", "a", "d")], 3, 60)
    assert [(r.id, r.score) for r in found] == [
        ("a", pytest.approx(1 / 61 + 1 / 62)),
        ("c", pytest.approx(1 / 63 + 1 / 61)),
        ("b", pytest.approx(1 / 62)),
    ]


orders = st.lists(st.permutations(list("abcdef")).map(lambda o: o[:4]), min_size=2, max_size=4)


@given(orders, st.integers(1, 8), st.floats(0, 100))
def test_scores_are_those_of_the_paper_and_ties_follow_the_retrievers(given_, k, constant):
    scores, seen = {}, []
    for order in given_:
        for rank, id_ in enumerate(order, start=1):
            scores[id_] = scores.get(id_, 0) + 1 / (constant + rank)
            seen += [id_] if id_ not in seen else []
    wanted = sorted(seen, key=lambda i: (-scores[i], seen.index(i)))[:k]
    found = fuse([ranking(*order) for order in given_], k, constant)
    assert [r.id for r in found] == wanted
    assert [r.score for r in found] == [scores[i] for i in wanted]


def test_a_query_that_one_retriever_could_not_answer_has_failed():
    assert fuse([ranking("a"), ranking(failed="timed out")], 3, 60) == Failure("timed out")


def test_a_text_that_only_one_of_them_has_stays():
    own = Ranking(query="q", passages=(Ranked.model_validate(
        {"id": "new", "score": 1, "text": "own words"}),))  # fmt: skip
    (_, new) = fuse([ranking("a"), own], 3, 60)
    assert new.text == "own words"


def run(passages, queries, encode, **options):
    return list(
        ask("hybrid", passages, queries, k=3, options=options, encode=encode.encode, level=None)
    )


def test_parts_are_the_retrievers_named_with_their_options(helpdesk_passages, fake_encoder):
    queries = ["close a workspace", "export invoices"]
    parts = {
        name: list(ask(name, helpdesk_passages, queries, k=5, options=options,
                       encode=fake_encoder.encode))
        for name, options in (("bm25", {"k1": 0.5}), ("dense", {"query_prefix": "q "}))
    }  # fmt: skip
    of = ({"type": "bm25", "k1": 0.5}, {"type": "dense", "query_prefix": "q "})
    found = run(helpdesk_passages, queries, fake_encoder, of=of, depth=5, constant=1.0)
    for n, best in enumerate(found):
        lists = [Ranking(query="q", passages=tuple(parts[name][n])) for name in ("bm25", "dense")]
        assert best == fuse(lists, 3, 1.0)
    other = run(helpdesk_passages, queries, fake_encoder, of=("bm25", "dense"), depth=5)
    assert other != found


def test_depth_is_at_least_k(helpdesk_passages, fake_encoder):
    query = ["close a workspace"]
    shallow = run(helpdesk_passages, query, fake_encoder, depth=1)
    assert shallow == run(helpdesk_passages, query, fake_encoder, depth=3)
    assert len(shallow[0]) == 3


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (("bm25",), "at least two"),
        (("bm25", "dens"), "`dense`"),
        (({"k1": 1.0}, "dense"), "`type`"),
        (({"type": "bm25", "k2": 1.0}, "dense"), "`k1`"),
        (({"type": "bm25", "k1": -1}, "dense"), "k1"),
    ],
)
def test_parts_that_are_none_are_refused(of, said, helpdesk_passages, fake_encoder):
    with pytest.raises(InputError, match=r"retrieve\.of") as caught:
        run(helpdesk_passages, ["x"], fake_encoder, of=of)
    assert said in str(caught.value)


def test_a_hybrid_asks_for_what_its_parts_ask_for():
    assert asks_for("hybrid", {}) == {"encode", "level"}
    assert asks_for("hybrid", {"of": ["bm25", {"type": "http", "url": "x"}]}) == {"level"}
    assert asks_for("bm25", {}) == {"level"} and asks_for("dense", {}) == {"encode"}


def test_the_words_of_passages_are_reduced_for_bm25_only(helpdesk_passages, fake_encoder):
    seen = []

    def level(text):
        seen.append(text)
        return text.lower()

    list(hybrid(helpdesk_passages, ["x"], k=3, encode=fake_encoder.encode, level=level))
    assert len(seen) == len(helpdesk_passages)

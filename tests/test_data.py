"""The data set: splits by question, dangling references, and the example's own quality."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from conftest import HELPDESK
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from accord.config import Data
from accord.configfile import load_config
from accord.data import (
    SPLITS,
    assign_splits,
    dev_parts,
    keep_apart,
    load_dataset,
    same_query,
    wordings,
)
from accord.errors import InputError
from accord.records import Question, Variation

DATA = Data(qa=("qa.jsonl",))
IDS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40, unique=True)


def ask(ids, split=None):
    return [Question(id=i, query=f"How {n}?", split=split) for n, i in enumerate(ids)]


def splits(questions, seed=0):
    return {q.id: q.split for q in assign_splits(questions, DATA, seed)}


@given(IDS, st.integers(0, 99), st.randoms())
def test_a_split_is_stable_under_reordering_and_new_questions(ids, seed, random):
    whole = splits(ask(ids), seed)
    random.shuffle(ids)
    some = ids[: len(ids) // 2]
    assert splits(ask(some), seed) == {i: whole[i] for i in some}


@given(IDS, st.sampled_from(SPLITS))
def test_a_split_that_is_given_is_honoured(ids, split):
    assert set(splits(ask(ids, split)).values()) == {split}


def test_shares_are_about_right_and_seeds_differ():
    ids = [f"q{n}" for n in range(4000)]
    shares = Counter(splits(ask(ids)).values())
    assert shares["train"] / 4000 == pytest.approx(0.6, abs=0.03)
    assert shares["dev"] / 4000 == pytest.approx(0.15, abs=0.03)
    assert splits(ask(ids), 0) != splits(ask(ids), 1)


@given(IDS, st.integers(0, 99))
def test_dev_halves_are_equal_within_one_and_independent_of_order(ids, seed):
    questions = ask(ids, "dev")
    parts = dev_parts(questions, seed)
    sizes = Counter(parts.values())
    assert set(parts) == set(ids)
    assert 0 <= sizes["fit"] - sizes["select"] <= 1
    assert dev_parts(questions[::-1], seed) == parts


@given(IDS, st.integers(0, 99), st.data())
def test_a_variation_is_always_in_its_originals_split(ids, seed, data):
    questions = assign_splits(ask(ids), DATA, seed)
    originals = data.draw(st.lists(st.sampled_from(ids), max_size=20))
    made = [
        Variation(id=f"{o}\x00{n}", original_id=o, type="t", query=f"w{n}")
        for n, o in enumerate(originals)
    ]
    asked = wordings(questions, made, seed)
    places = {q.id: q.split for q in questions}
    assert len(asked) == len(questions) + len(made)
    for w in asked:
        assert w.split == places[w.original_id]
        assert (w.part is not None) == (w.split == "dev")
    parts = {
        w.original_id: {v.part for v in asked if v.original_id == w.original_id} for w in asked
    }
    assert all(len(found) == 1 for found in parts.values())


@given(st.lists(st.tuples(st.sampled_from(SPLITS), st.sampled_from("abcdefA"))))
def test_no_query_is_asked_in_two_splits_once_they_are_kept_apart(rows):
    questions = [Question(id=f"q{s}", query=f"about {s}?", split=s) for s in SPLITS]
    made = [
        Variation(id=f"v{n}", original_id=f"q{split}", type="t", query=text)
        for n, (split, text) in enumerate(rows)
    ]
    made.append(Variation(id="w", original_id="qtrain", type="t", query="About  test"))
    kept, skipped = keep_apart(questions, made)
    asked = {(same_query(w.query), w.split) for w in wordings(questions, kept, 0)}
    assert len({query for query, _ in asked}) == len(asked)
    assert len(kept) + len(skipped) == len(made)
    assert [v for v in made if v.original_id == "qtest"] == [
        v for v in kept if v.original_id == "qtest"
    ]
    assert any("test split" in s.reason for s in skipped)


def files(folder, qa=None, passages=None, variations=None, contexts=None):
    """A `data` section of files with these objects."""
    given = {"qa": qa, "passages": passages, "variations": variations, "contexts": contexts}
    for name, rows in given.items():
        if rows is not None:
            lines = [json.dumps(row) + "\n" for row in rows]
            (folder / f"{name}.jsonl").write_text("".join(lines))
    paths = {n: (folder / f"{n}.jsonl",) for n, rows in given.items() if rows is not None}
    return Data(**paths)


Q = {"id": "q", "query": "How?"}
P = {"id": "p", "text": "So."}
V = {"id": "v", "original_id": "q", "type": "semantic", "query": "In what way?"}
C = {"id": "q", "original_id": "q", "passages": [{"id": "p", "score": 1.0}]}
MISTAKES = [
    ({"qa": [Q, Q]}, ("qa.jsonl", "`q`", "twice")),
    ({"qa": [Q], "passages": [P, P]}, ("passages.jsonl", "`p`", "twice")),
    ({"qa": [Q], "variations": [V, V]}, ("variations.jsonl", "`v`", "twice")),
    ({"qa": [Q], "variations": [V | {"id": "q"}]}, ("variations.jsonl", "`q`", "own")),
    ({"qa": [Q], "variations": [V | {"original_id": "x"}]}, ("`original_id`", "`v`", "`x`")),
    ({"qa": [Q | {"context_ids": ["x"]}], "passages": [P]}, ("`context_ids`", "`q`", "`x`")),
    ({"qa": []}, ("qa.jsonl", "empty")),
    ({"qa": [Q], "passages": [P], "contexts": [C, C]}, ("contexts.jsonl", "`q`", "twice")),
    ({"qa": [Q], "contexts": [C]}, ("contexts.jsonl", "`q`", "`p`", "`text`")),
    (
        {"qa": [Q], "contexts": [C | {"passages": [{"id": "x", "score": 1, "text": " "}]}]},
        ("`q`", "`x`", "`text`"),
    ),
    (
        {"qa": [Q], "passages": [P], "contexts": [C | {"original_id": "x"}]},
        ("contexts.jsonl", "`original_id`", "`x`", "`q`"),
    ),
    (
        {"qa": [Q], "passages": [P], "contexts": [C | {"id": "y", "original_id": "x"}]},
        ("contexts.jsonl", "no entry", "`y`", "qa.jsonl"),
    ),
    (
        {"qa": [Q], "passages": [P], "contexts": [C | {"passages": [{"id": "p"}]}]},
        ("contexts.jsonl line 1", "score"),
    ),
    (
        {
            "qa": [Q],
            "passages": [P],
            "contexts": [C | {"passages": [{"id": "p", "score": float("nan")}]}],
        },
        ("contexts.jsonl", "`score`", "finite"),
    ),
]


@pytest.mark.parametrize(("rows", "parts"), MISTAKES)
def test_ids_that_clash_or_dangle_are_named(tmp_path, rows, parts):
    with pytest.raises(InputError) as caught:
        load_dataset(files(tmp_path, **rows), 0)
    for part in parts:
        assert part in str(caught.value)


def test_contexts_of_the_user_may_bring_texts_and_be_of_more_than_is_asked(tmp_path):
    own = [
        C | {"passages": [{"id": "x", "score": 1, "text": "Own."}, {"id": "p", "score": 0}]},
        C | {"id": "made~t~0", "passages": []},
        C | {"id": "elsewhere", "original_id": "elsewhere"},
    ]
    found = load_dataset(files(tmp_path, qa=[Q], passages=[P], contexts=own), 0).contexts
    assert [g.id for g in found] == ["q", "made~t~0", "elsewhere"]
    assert found[0].passages[0].text == "Own."


def test_files_of_a_list_are_one_data_set_and_share_their_ids(tmp_path):
    (tmp_path / "more.jsonl").write_text(json.dumps(Q | {"id": "r"}))
    data = files(tmp_path, qa=[Q])
    both = data.model_copy(update={"qa": (*data.qa, tmp_path / "more.jsonl")})
    assert [q.id for q in load_dataset(both, 0).questions] == ["q", "r"]
    with pytest.raises(InputError, match="twice"):
        load_dataset(data.model_copy(update={"qa": data.qa * 2}), 0)


def test_a_limit_keeps_the_first_questions_of_each_split_and_their_variations(tmp_path):
    rows = [Q | {"id": f"{s}{n}", "split": s} for n in range(4) for s in SPLITS]
    made = [V | {"id": f"v-{r['id']}", "original_id": r["id"]} for r in rows]
    data = files(tmp_path, qa=rows, variations=made)
    found = load_dataset(
        Data(**data.model_dump(exclude={"limit"}), limit={"train": 1, "dev": 2}), 0
    )
    assert Counter(q.split for q in found.questions) == {"train": 1, "dev": 2, "test": 4}
    assert [q.id for q in found.of_split("dev")] == ["dev0", "dev1"]
    assert {v.original_id for v in found.variations} == {q.id for q in found.questions}


FILLER = frozenset(
    [
        "how",
        "to",
        "do",
        "does",
        "did",
        "i",
        "we",
        "you",
        "my",
        "our",
        "your",
        "a",
        "an",
        "the",
        "is",
        "are",
        "can",
        "could",
        "should",
        "would",
        "of",
        "for",
        "in",
        "on",
        "it",
        "and",
        "or",
        "me",
        "us",
        "what",
        "way",
        "there",
        "any",
    ]
)


def content(query):
    words = re.findall(r"[a-z0-9]+", query.casefold())
    return " ".join(sorted({w.rstrip("s") for w in words} - FILLER))


@pytest.fixture(scope="module")
def example_wordings():
    """Every wording of examples/helpdesk: originals, frozen ones and those made by rule."""
    from accord.vary.stage import vary

    config = load_config(HELPDESK / "accord.yaml", ["data.limit=null"])
    data = load_dataset(config.data, config.seed)
    made, _ = vary(data.questions, config.vary.components(), frozen=data.variations)
    return wordings(data.questions, made, config.seed)


def test_the_examples_wordings_have_no_near_duplicates_between_splits(example_wordings):
    by_split = {
        s: [(content(w.query), w) for w in example_wordings if w.split == s] for s in SPLITS
    }
    assert all(len(ws) > 60 for ws in by_split.values())
    near = [
        (one.query, two.query)
        for a, b in itertools.combinations(SPLITS, 2)
        for (x, one), (y, two) in itertools.product(by_split[a], by_split[b])
        # Sets alone call `close account` the same as every longer question about it.
        if fuzz.token_set_ratio(x, y) >= 90 and fuzz.token_sort_ratio(x, y) >= 80
    ]
    assert near == []


def test_the_examples_questions_have_answers_gold_passages_and_splits():
    config = load_config(HELPDESK / "accord.yaml", ["data.limit=null"])
    data = load_dataset(config.data, config.seed)
    known = {p.id for p in data.passages}
    for q in data.questions:
        assert q.answer and q.split and q.context_ids and set(q.context_ids) <= known
    assert {v.original_id for v in data.variations} == {q.id for q in data.questions}
    assert Path(config.data.qa[0]).parent == HELPDESK

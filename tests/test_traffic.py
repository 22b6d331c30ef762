"""Groups of rewordings in a query log."""

import hashlib
import json
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import InputError
from accord.vary import nearest
from accord.vary.meaning import Limits, fold, meaning
from accord.vary.nearest import near_pairs
from accord.vary.traffic import Logged, as_records, fold_log, groups, read_log


def log(*queries):
    return [Logged(query=query) for query in queries]


def directions(**angles):
    """An encoder that puts each text at an angle of the plane; what is not named is far away."""

    def encode(texts):
        at = [angles[t] if t in angles else 2 + _unit(t) for t in texts]
        return np.array([[np.cos(a), np.sin(a)] for a in at], np.float32)

    return encode


def _unit(text):
    return hashlib.sha256(text.encode()).digest()[0] / 256


def by_words(texts):
    """Vectors of hashed words: texts that share words are near."""
    vectors = np.full((len(texts), 64), 1e-3, np.float32)
    for row, text in enumerate(texts):
        for word in text.casefold().split():
            vectors[row, hashlib.sha256(word.encode()).digest()[0] % 64] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def queries_of(found):
    return [[wording.query for wording in group.wordings] for group in found]


A, B, C = "how do i mend the lamp", "what is the way to repair a light", "ways to fix the lights"


def test_near_queries_are_one_group_and_the_most_frequent_wording_leads():
    encode = directions(**{A: 0.0, B: 0.1, C: 0.2})
    found = groups(log(A, B, B, C, "where is the zoo"), encode, threshold=0.9)
    assert queries_of(found) == [[B, A, C]]
    assert [w.asked for w in found[0].wordings] == [2, 1, 1]
    assert found[0].similarities == pytest.approx((1, np.cos(0.1), np.cos(0.1)), abs=1e-6)


def test_a_chain_does_not_join_what_is_far():
    encode = directions(**{A: 0.0, B: 0.3, C: 0.65})
    (group,) = queries_of(groups(log(A, B, C), encode, threshold=0.93))
    assert sorted(group) == sorted([A, B])


def test_the_guard_holds_for_every_pair_of_a_group():
    plan = ["can i end the plan", "may i end the plan early", "can i not end the plan"]
    encode = directions(**dict.fromkeys(plan, 0.0))
    (group,) = queries_of(groups(log(*plan), encode, threshold=0.9))
    assert sorted(group) == sorted(plan[:2])


def test_entities_are_heard():
    encode = directions(**{A: 0.0, B: 0.1})
    lamps = {A: frozenset({"lamp"})}
    assert not groups(log(A, B), encode, entities=lambda text: lamps.get(text, frozenset()))
    assert groups(log(A, B), encode)


def test_case_punctuation_and_articles_are_folded_and_counted():
    rows = log("Mend a lamp?", "mend the lamp", "mend the lamp", "C++", "C#")
    found = {w.query: w.asked for w in fold_log(rows)}
    assert found == {"mend the lamp": 3, "C++": 1, "C#": 1}
    assert groups(rows[:3], by_words) == []


def test_records_carry_counts_ids_times_and_where_they_come_from():
    rows = [
        Logged(query=A, id="a1", count=5, time=3.0),
        Logged(query=A.upper() + "?", id="a2", time=1.0),
        Logged(query=B, count=2, time="2026-01-02"),
        Logged(query=B, time="2025-01-02"),
    ]
    found = groups(rows, directions(**{A: 0.0, B: 0.1}))
    questions, variations = as_records(found)
    assert [q.model_dump(exclude_unset=True) for q in questions] == [
        {"id": "a1", "query": A, "count": 9}
    ]
    assert [v.model_dump() for v in variations] == [
        {
            "id": "a1~semantic~0",
            "original_id": "a1",
            "type": "semantic",
            "query": B,
            "written_by": "traffic",
            "count": 3,
            "similarity": 0.995,
            "first": "2025-01-02",
            "last": "2026-01-02",
        }
    ]


def test_an_id_that_two_questions_share_is_an_error():
    x, y = "who runs the zoo here", "who is it that runs the zoo"
    twice = [Logged(query=A, id="1", count=2), Logged(query=x, id="1", count=2)]
    rows = [*twice, *log(B, y)]
    found = groups(rows, directions(**{A: 0.0, B: 0.1, x: 1.5, y: 1.6}))
    with pytest.raises(InputError, match="the id `1` to two different"):
        as_records(found)


def test_without_ids_they_are_made_of_the_query():
    found = groups(log(A, B), directions(**{A: 0.0, B: 0.1}))
    (question,), _ = as_records(found)
    assert question.id == "t-" + hashlib.sha256(question.query.encode()).hexdigest()[:12]


WORDS = ["lamp", "light", "mend", "repair", "zoo", "not", "7", "8", "open", "Paris", "how", "when"]
QUERIES = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join), max_size=25
)


@settings(max_examples=80, deadline=None)
@given(QUERIES, st.randoms(use_true_random=False))
def test_groups_are_complete_links_and_the_order_of_the_log_is_nothing(queries, shuffle):
    found = groups(log(*queries), by_words, threshold=0.6)
    limits = Limits(0.6, 2.0)
    for group in queries_of(found):
        assert len(group) > 1 and set(group) <= set(queries)
        vectors = by_words(group)
        assert (vectors @ vectors.T).min() > 0.6 - 1e-5
        for i, one in enumerate(group):
            for other in group[i + 1 :]:
                assert fold(one) != fold(other)
                assert meaning(min(one, other), max(one, other), limits=limits) is None
    grouped = [query for group in queries_of(found) for query in group]
    assert len(grouped) == len(set(grouped))
    shuffled = list(queries)
    shuffle.shuffle(shuffled)
    assert groups(log(*shuffled), by_words, threshold=0.6) == found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**32 - 1), st.floats(-0.5, 0.9))
def test_the_blocks_find_what_the_whole_matrix_has(count, seed, threshold):
    vectors = np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = vectors @ vectors.T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "ROWS", 7)
        patch.setattr(nearest, "COLUMNS", 11)
        found = list(near_pairs(vectors, threshold))
    apart = np.abs(whole - threshold) > 1e-5
    wanted = {(i, j) for i in range(count) for j in range(i) if whole[i, j] > threshold}
    sure = {(j, i) for i, j in wanted if apart[i, j]}
    assert sure <= set(found) and len(found) == len(set(found))
    assert all(i < j and whole[i, j] > threshold - 1e-5 for i, j in found)
    values = [whole[pair] for pair in found]
    assert all(a > b - 2e-5 for a, b in pairwise(values))


def test_of_what_is_all_alike_each_row_keeps_its_nearest():
    vectors = np.ones((400, 1), np.float32)
    found = list(near_pairs(vectors, 0.9))
    assert len(found) == 50 * 350 + sum(range(50))
    assert {j for i, j in found if i == 0} == set(range(1, 51))


@pytest.mark.parametrize("queries", [[], [""], ["x"], ["x" * 100_000, "x" * 99_999]])
def test_what_makes_no_group(queries):
    rows = [Logged.model_construct(query=query, id=None, count=1, time=None) for query in queries]
    assert groups(rows, by_words) == []


STRANGE = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.lists(STRANGE, max_size=8))
def test_any_texts_are_grouped_or_left(texts):
    for group in groups(log(*texts, *texts), by_words, threshold=-1):
        assert {w.query for w in group.wordings} <= set(texts)


def test_a_log_is_json_lines_or_one_query_a_line(tmp_path):
    plain = tmp_path / "log.txt"
    plain.write_bytes("\ufeffHow?\r\n\n  Why \u2028 so? \n".encode())
    assert [row.query for row in read_log(plain)] == ["How?", "Why \u2028 so?"]
    lines = tmp_path / "log.jsonl"
    rows = [{"query": "How?", "id": 7, "count": 3, "time": 5}, {"query": "Why?"}]
    lines.write_text("\n".join(map(json.dumps, rows)))
    assert [(r.query, r.id, r.count, r.time) for r in read_log(lines)] == [
        ("How?", "7", 3, 5.0),
        ("Why?", None, 1, None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.jsonl", b'{"query": "x"}\n{"q": 1}\n', "line 2: field `query` is missing"),
        ("a.jsonl", b'{"query": "x", "count": 0}\n', "line 1: field `count`"),
        ("a.txt", b"ok\n\xff", "not UTF-8 at byte 3"),
    ],
)
def test_a_bad_log_is_named(tmp_path, name, content, wanted):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=wanted):
        read_log(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_log(tmp_path / f"other-{name}")


def test_20_000_queries_need_little_memory_and_time():
    """No matrix of all pairs: it would be 1.6 GB here."""
    import tracemalloc

    draw = random.Random(0)
    vectors = np.random.default_rng(0).standard_normal((20_000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = sorted(draw.sample(range(20_000), 2))
    vectors[second] = vectors[first]
    tracemalloc.start()
    found = list(near_pairs(vectors, 0.999))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first, second) in found
    assert peak < 200_000_000

"""The stage: nothing lost at a kill, and all trouble counted."""

import pytest
from retrieving import POOL, asked, scripted_retriever

from accord.errors import InputError, RunError
from accord.grounding import with_texts
from accord.rankings import jaccard
from accord.records import Ranked
from accord.registry import register
from accord.retrieve.consistency import (
    consistency,
)
from accord.retrieve.journal import Journal
from accord.retrieve.received import Failure, Ranking
from accord.retrieve.stage import DEAD, retrieve


@pytest.fixture
def scripted():
    with scripted_retriever() as made:
        yield made


def find(wordings, notes=None, **options):
    say = (lambda note: None) if notes is None else notes.append
    return retrieve(wordings, POOL, retriever="scripted", say=say, **options)


def test_a_query_that_several_wordings_share_is_searched_once(scripted):
    found = find(asked("a", "b", "a"))
    assert scripted.seen == ["a", "b"]
    assert [g.id for g in found] == ["q0", "q1", "q2"]
    assert found[0].passages == found[2].passages


def test_every_kind_of_trouble_is_counted_with_its_first_wording(scripted):
    scripted.script = {
        "b": ["p0", "p0", "p1"],
        "c": ["nowhere", {"x": 1}, {"id": "p1", "score": float("nan")}],
        "d": ["p0", "p0", "p1", "p2", "p3", "p4"],
        "e": Failure("timed out"),
        "f": Failure("raised KeyError: 'x'"),
        "g": [],
        "h": Failure("timed out"),
    }
    notes = []
    found = {g.id: g for g in find(asked(*"abcdefgh"), notes)}
    assert notes == [
        "retriever: 2 duplicate passages dropped (first: `q1`)",
        "retriever: 1 passages with an id that is not in data.passages and without text dropped "
        "(first: `q2`)",
        "retriever: 1 results with neither an id nor a text dropped (first: `q2`)",
        "retriever: 2 passages beyond k dropped (first: `q3`)",
        "retriever: 1 scores that are no finite number; those passages keep their place "
        "(first: `q2`)",
        "retriever: 3 of 8 queries failed (2 timed out, 1 raised KeyError: 'x'; first: `q4`) and "
        "have no passages",
        "retriever: nothing was found for 1 of 8 queries (first: `q6`); they have no passages",
    ]
    assert [r.id for r in found["q3"].passages] == ["p0", "p1", "p2"]
    assert found["q4"].failed == "timed out" and found["q4"].passages == ()
    assert "failed" not in found["q6"].model_extra


def test_a_good_retriever_gives_no_note(scripted):
    notes = []
    find(asked("a", "b"), notes)
    assert notes == []


def test_when_every_query_fails_there_is_one_sentence(scripted):
    scripted.script = {"a": Failure("timed out"), "b": Failure("timed out")}
    with pytest.raises(RunError, match="every query failed, first `q0`: timed out"):
        find(asked("a", "b"))


def test_a_retriever_that_dies_midway_is_given_up_and_asked_for_the_rest_later(scripted, tmp_path):
    queries = [f"query {n}" for n in range(60)]
    journal = tmp_path / "found.jsonl"
    scripted.script = {query: Failure("no connection") for query in queries[10:]}
    with pytest.raises(RunError, match="in a row failed, first `q10`: no connection") as caught:
        find(asked(*queries), journal=journal)
    assert "asks the rest" in str(caught.value)
    assert len(scripted.seen) == 10 + DEAD
    scripted.script, scripted.seen = {}, []
    notes = []
    found = find(asked(*queries), notes, journal=journal)
    assert scripted.seen == queries[10:] and notes == []
    assert all([r.id for r in g.passages] == ["p0"] for g in found)


def test_failures_with_answers_between_them_do_not_end_it(scripted):
    queries = [f"query {n}" for n in range(4 * DEAD)]
    scripted.script = {query: Failure("timed out") for n, query in enumerate(queries) if n % DEAD}
    found = find(asked(*queries))
    assert sum(g.passages != () for g in found) == 4


@pytest.mark.parametrize("kept", [0, 1, 7, 30])
def test_a_kill_in_the_middle_of_a_line_loses_only_that_query(scripted, tmp_path, kept):
    queries = [f"query {n}" for n in range(30)]
    journal = tmp_path / "found.jsonl"
    whole = find(asked(*queries), journal=journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    torn = lines[kept][:25] if kept < len(lines) else b""
    journal.write_bytes(b"".join(lines[:kept]) + torn)
    scripted.seen = []
    assert find(asked(*queries), journal=journal) == whole
    assert scripted.seen == queries[kept:]


def test_what_was_found_before_a_kill_is_counted_in_the_notes(scripted, tmp_path):
    journal = tmp_path / "found.jsonl"
    scripted.script = {"a": ["p0", "p0"], "b": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        find(asked("a", "b"), journal=journal)
    scripted.script["b"] = ["p1", "p1"]
    notes = []
    find(asked("a", "b"), notes, journal=journal)
    assert notes == ["retriever: 2 duplicate passages dropped (first: `q0`)"]


def test_failed_queries_are_not_kept(tmp_path):
    journal = Journal(tmp_path / "found.jsonl")
    journal.add(Ranking(query="good", passages=(Ranked(id="p", score=1),)))
    journal.add(Ranking(query="bad", failed="timed out"))
    journal.close()
    assert list(Journal(tmp_path / "found.jsonl").known) == ["good"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_retriever_that_gives_another_number_of_rankings_is_an_error(count):
    @register("retrievers", "miscounting")
    def miscounting(passages, queries, *, k):
        return iter([["p0"]] * count)

    with pytest.raises(RunError, match=rf"2 queries got {'more' if count > 2 else count} rankings"):
        retrieve(asked("a", "b"), POOL, retriever="miscounting")


def test_a_retriever_may_not_ask_for_what_there_is_not():
    @register("retrievers", "greedy")
    def greedy(passages, queries, *, k, database):
        yield from ()

    with pytest.raises(InputError, match="asks for `database`"):
        retrieve(asked("a"), POOL, retriever="greedy")


def test_dense_without_an_encoder_is_one_sentence():
    with pytest.raises(InputError, match="`dense` needs a sentence encoder"):
        retrieve(asked("a"), POOL, retriever="dense")


def test_parts_under_one_id_are_told_apart_and_remain_gold(scripted):
    part = {"id": "doc", "text": "first part"}
    scripted.script = {
        "a": [part, {"id": "doc", "text": "second part"}, part],
        "b": [{"id": "doc", "text": "second part"}, {"id": "other", "text": "x y"}],
    }
    notes = []
    first, second = find(asked("a", "b"), notes)
    assert [n for n in notes if "several texts" in n and "`doc`" in n]
    assert [r.text for r in first.passages] == ["first part", "second part"]
    assert first.passages[1].id == second.passages[0].id != first.passages[0].id
    assert second.passages[1].id == "other"
    own = second.model_copy(update={"original_id": "q0"})
    (row,) = consistency([first, own], {"q1": "t"}, {"q0": {"doc"}})
    assert row.gold and row.gold_original and row.jaccard == jaccard(["x", "y"], ["y", "z"])


def test_texts_are_those_of_the_retriever_else_of_the_collection(scripted):
    scripted.script = {"a": ["p1", {"id": "new", "text": "own words", "title": "T"}]}
    (passages,) = with_texts(find(asked("a")), POOL).values()
    assert [(p.id, p.text, p.title) for p in passages] == [
        ("p1", "text 1", None),
        ("new", "own words", "T"),
    ]

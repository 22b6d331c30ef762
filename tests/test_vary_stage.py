"""The stage vary: frozen wordings, order, limits, and nothing made that is no rewording."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord import registry
from accord.progress import Progress
from accord.records import Question, Variation
from accord.registry import register
from accord.vary.outcome import Rewording, Skip, keyed_random
from accord.vary.stage import vary

QUERIES = (
    "How do I close my account?", "how to export reports", "Can we share a folder?",
    "Where is the invoice?", "How can we add a user to our team?", "Why?",
    "How do I delete a report?", "Can I print it?",
)  # fmt: skip
KINDS = [("how_to_do", {}), ("i_we", {})]


def ask(queries=QUERIES):
    return [Question(id=f"q{n}", query=query) for n, query in enumerate(queries)]


def freeze(original, kind, query, number=0):
    return Variation(id=f"{original}-{kind}-{number}", original_id=original, type=kind, query=query)


@pytest.fixture
def kinds(monkeypatch):
    """Two kinds of variation: `shout` makes three, `echo` repeats; gives who was asked."""
    registry.components("variations")  # loaded before the copy, or they were lost with it
    monkeypatch.setattr(registry, "_components", dict(registry._components))
    calls = Counter()

    @register("variations", "shout")
    def shout(questions, *, seed, mark: str = "!"):
        """Three shouts."""
        for q in questions:
            calls[q.id] += 1
            yield [Rewording(q.query + mark * n, "shout") for n in (1, 1, 2)]

    @register("variations", "echo")
    def echo(questions, *, seed):
        """Chooses at random; sometimes nothing but the question itself."""
        for q in questions:
            same = keyed_random(seed, "echo", q.id).random() < 0.5
            yield Skip("nothing to say") if same else [Rewording(q.query, "echo")]

    return calls


def test_frozen_variations_are_kept_as_they_are_and_not_made_anew(kinds):
    frozen = [freeze("q0", "shout", "CLOSE IT"), freeze("q1", "other", "exporting")]
    made, _ = vary(ask(), [("shout", {})], frozen=frozen)
    assert [v for v in made if v.original_id == "q0"] == frozen[:1]
    assert frozen[1] in made
    assert "q0" not in kinds and set(kinds.values()) == {1}


def test_repeats_and_echoes_are_skipped_with_a_reason(kinds):
    made, skipped = vary(ask(["How?"]), [("shout", {}), ("echo", {})])
    assert [v.query for v in made] == ["How?!", "How?!!"]
    assert [(s.type, s.original_id) for s in skipped] == [("echo", "q0"), ("shout", "q0")]
    assert all(s.reason for s in skipped)


def test_options_reach_the_component(kinds):
    made, _ = vary(ask(["How"]), [("shout", {"mark": "?"})])
    assert made[0].query == "How?"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_limit_takes_the_kinds_in_turn(kinds, limit):
    kinds_in_order = [("how_to_do", {}), ("shout", {})]
    whole, _ = vary(ask(), kinds_in_order)
    made, skipped = vary(ask(), kinds_in_order, max_per_question=limit)
    per_question = Counter(v.original_id for v in made)
    assert max(per_question.values()) == limit
    first = [v.type for v in made if v.original_id == "q0"]
    assert first == ["how_to_do", "shout", "shout"][:limit]
    dropped = [s for s in skipped if "max_per_question" in s.reason]
    assert len(made) + len(dropped) >= len(whole)
    assert (len(made) < len(whole)) == (limit < 3)


@given(st.permutations(range(len(QUERIES))), st.integers(0, 9))
def test_the_order_of_the_questions_changes_no_variation(order, seed):
    questions = ask()
    made, skipped = vary(questions, KINDS, seed=seed)
    shuffled = [questions[n] for n in order]
    again, again_skipped = vary(shuffled, KINDS, seed=seed)
    assert sorted(made, key=str) == sorted(again, key=str)
    assert sorted(skipped, key=str) == sorted(again_skipped, key=str)
    places = [v.original_id for v in again]
    assert places == sorted(places, key=[q.id for q in shuffled].index)


@given(st.lists(st.sampled_from(QUERIES), min_size=1), st.integers(0, 9))
def test_no_variation_equals_its_original_and_every_kind_is_accounted_for(queries, seed):
    questions = ask(queries)
    made, skipped = vary(questions, KINDS, seed=seed)
    originals = {q.id: q.query for q in questions}
    assert all(v.query != originals[v.original_id] for v in made)
    assert len({(v.original_id, v.query) for v in made}) == len(made)
    assert len({v.id for v in made} | set(originals)) == len(made) + len(originals)
    covered = {(r.original_id, r.type) for r in [*made, *skipped]}
    assert covered == {(q, kind) for q in originals for kind, _ in KINDS}


def test_a_variation_tells_what_changed_and_where():
    made, _ = vary(ask(), KINDS)
    originals = {q.id: q.query for q in ask()}
    assert made
    for v in made:
        start, end = v.span
        source = originals[v.original_id]
        assert source[start:end] == v.before
        assert v.query == source[:start] + v.after + source[end:]
        assert v.operator == v.type


def test_the_span_is_found_where_a_component_gives_none(kinds):
    made, _ = vary(ask(["How?"]), [("shout", {})])
    assert [(v.span, v.before, v.after) for v in made] == [([4, 4], "", "!"), ([4, 4], "", "!!")]


def test_batches_change_nothing(monkeypatch):
    whole = vary(ask(), KINDS)
    monkeypatch.setattr("accord.vary.pipeline.KEPT", 3)
    assert vary(ask(), KINDS) == whole


def test_progress_counts_every_question_and_kind(kinds):
    class Count(Progress):
        total = done = 0

        def start(self, total, unit=""):
            self.total = total

        def advance(self, amount=1, note=None):
            self.done += amount

    count = Count()
    vary(ask(), [("shout", {}), ("echo", {})], frozen=[freeze("q0", "shout", "X")], progress=count)
    assert count.done == count.total == 2 * len(QUERIES)

"""The judge, against a real local endpoint whose verdicts are rules of the tests."""

import json
import math
import random
import re

import numpy as np
import pytest
from helpers import tree
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from test_endpoint import SECRET, Answer, Server

from accord.errors import InputError, RunError
from accord.evaluate import judge as module
from accord.evaluate.judge import against_labels, agreement, judge, kappa, parse_verdict
from accord.models.endpoint import Endpoint
from accord.records import Labelled

ANSWERS = re.compile(r"<answer_a>\n(.*)\n</answer_a>.*<answer_b>\n(.*)\n</answer_b>", re.DOTALL)


def verdict(equivalent):
    return Answer(json.dumps({"reason": "so", "equivalent": bool(equivalent)}))


def ruled(rule):
    """A judge that says what `rule(a, b)` says of the answers in the prompt."""
    return lambda number, prompt: verdict(rule(*ANSWERS.search(prompt).groups()))


def fair(a, b):
    return a.lower() == b.lower()


def judged(behave, pairs, *, tries=2, cache=None, queries=None, groups=None, **options):
    """`pairs` of answers judged; the server's requests with it."""
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    groups = groups or [f"q{n}" for n in range(len(pairs))]
    with Server(behave) as server:
        endpoint = Endpoint(server.url, "m", tries=tries, cache=cache, sleep=lambda seconds: None)
        queries = queries or ["why?"] * len(pairs)
        found = judge(first, second, queries, endpoint=endpoint, groups=groups, **options)
    return found, server


def test_a_pair_is_asked_in_both_orders_with_its_question():
    found, server = judged(ruled(fair), [("Yes", "yes"), ("Yes", "no")], queries=["q1?", "q2?"])
    assert found.scores.tolist() == [1, 0]
    asked = {(p.split("<question>\n")[1][:3], *ANSWERS.search(p).groups()) for p in server.prompts}
    assert asked == {
        ("q1?", "Yes", "yes"),
        ("q1?", "yes", "Yes"),
        ("q2?", "Yes", "no"),
        ("q2?", "no", "Yes"),
    }
    assert len(server.requests) == 4


WORDS = st.sampled_from(["a", "A", "b", "B", "c"])


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, st.sampled_from("xy")), max_size=12), st.randoms())
def test_the_order_of_pairs_and_of_answers_does_not_matter(rows, shuffle):
    """Verdicts that depend on the order of the answers in the prompt, and on nothing else."""

    def run(rows):
        pairs, queries = [row[:2] for row in rows], [row[2] for row in rows]
        return judged(ruled(lambda a, b: a < b), pairs, queries=queries, groups=queries)

    (one, server), swapped = run(rows), [(b, a, q) for a, b, q in rows]
    order = shuffle.sample(range(len(rows)), len(rows))
    two, _ = run([swapped[i] for i in order])
    np.testing.assert_array_equal(one.scores[order], two.scores)
    assert {**one.report, "endpoint": None} == {**two.report, "endpoint": None}
    different = {(q, frozenset((a, b))) for a, b, q in rows if a != b}
    assert len(server.requests) == 2 * len(different) == 2 * one.report["distinct"]
    assert one.scores.tolist() == [1.0 if a == b else 0.5 for a, b, _ in rows]


def test_equal_texts_are_not_asked_and_score_1():
    found, server = judged(lambda n, p: Answer("", 500), [("x", "x"), ("", "")])
    assert found.scores.tolist() == [1, 1] and server.requests == []
    assert found.report["equal"] == 2 and found.report["self_agreement"]["n"] == 0
    assert found.report["self_agreement"]["agreement"] is None


def test_a_judge_that_looks_at_the_order_only_does_not_agree_with_itself():
    pairs = [(f"a{n}", f"b{n}") for n in range(30)]
    found, _ = judged(ruled(lambda a, b: a < b), pairs)
    assert set(found.scores) == {0.5}
    own = found.report["self_agreement"]
    assert own["agreement"] == 0 and own["kappa"] == -1 and own["n"] == own["groups"] == 30
    assert own["ci"][0] == 0 and 0 < own["ci"][1] < 0.2


def test_self_agreement_is_by_distinct_pair_and_clustered_by_question():
    """10 questions of 6 pairs; all pairs of a question agree or none does."""
    pairs = [(f"{g}{n}", f"{g}x{n}") for g in range(10) for n in range(6)]
    consistent = ruled(lambda a, b: int(a[0]) < 5 or a < b)
    groups = [a[0] for a, _ in pairs]
    alone, _ = judged(consistent, pairs)
    together, _ = judged(consistent, pairs * 2, groups=groups * 2)
    one, two = alone.report["self_agreement"], together.report["self_agreement"]
    assert one["n"] == two["n"] == 60 and one["agreement"] == two["agreement"] == 0.5
    assert (one["groups"], two["groups"]) == (60, 10)
    width = [high - low for low, high in (one["ci"], two["ci"])]
    assert width[1] > 2 * width[0]  # sqrt(6) and Student's t


BAD = [
    "",
    "yes",
    '{"same": true}',
    '{"equivalent": "true"}',
    '{"equivalent": true',
    "<html></html>",
]


@pytest.mark.parametrize("reply", BAD)
def test_what_is_no_verdict_is_asked_again_and_then_unscored(reply):
    def spoilt(number, prompt):
        return Answer(reply) if "XX" in prompt else verdict(True)

    found, server = judged(spoilt, [("a", "b"), ("a", "XX"), ("d", "e")], tries=3)
    assert found.scores[[0, 2]].tolist() == [1, 1] and math.isnan(found.scores[1])
    assert found.report["unscored"] == {"no acceptable reply": 1}
    assert sum("XX" in prompt for prompt in server.prompts) == 6
    assert found.report["self_agreement"]["n"] == 2


def test_one_order_without_an_answer_makes_the_pair_unscored():
    def half(number, prompt):
        a, b = ANSWERS.search(prompt).groups()
        return verdict(True) if a < b else Answer("oh", 500)

    found, _ = judged(half, [("a", "b"), ("a", "b")])
    assert np.isnan(found.scores).all()
    assert found.report["unscored"] == {"status 500": 1}  # of 1 distinct pair
    assert (found.report["asked"], found.report["pairs"]) == (2, 2)


def test_random_failures_change_no_score():
    fails, pairs = random.Random(0), [(f"a{n}", f"A{n % 7}") for n in range(30)]
    bodies = [Answer("oh", 500), Answer(body=b"<html>"), Answer("{"), Answer("", 429)]

    def flaky(number, prompt):
        bad = fails.random() < 0.4
        return fails.choice(bodies) if bad else ruled(fair)(number, prompt)

    found, _ = judged(flaky, pairs, tries=15)
    assert found.scores.tolist() == [float(fair(*pair)) for pair in pairs]
    assert found.report["unscored"] == {}


def test_a_schema_that_changes_midway_leaves_the_rest_unscored():
    def changing(number, prompt):
        return verdict(True) if number <= 10 else Answer('{"verdict": {"equivalent": true}}')

    pairs = [(f"a{n}", f"b{n}") for n in range(10)]
    with Server(changing) as server:
        endpoint = Endpoint(server.url, "m", tries=2, concurrency=1, sleep=lambda seconds: None)
        found = judge(*zip(*pairs, strict=True), ["?"] * 10, endpoint=endpoint, groups=["g"] * 10)
    assert np.isnan(found.scores).tolist() == [False] * 5 + [True] * 5
    assert found.report["unscored"] == {"no acceptable reply": 5}


def test_a_refused_key_and_an_absent_endpoint_end_the_run(tmp_path):
    with pytest.raises(InputError, match=r"refused the key; set \$OPENAI_API_KEY"):
        judged(lambda n, p: Answer("who?", 401), [("a", "b")])
    with Server(ruled(fair)) as server:
        endpoint = Endpoint(server.url, "m", tries=2, sleep=lambda seconds: None)
    with pytest.raises(RunError, match="after 2 tries; is it running"):
        judge(["a"], ["b"], ["?"], endpoint=endpoint, groups=["g"])


# The reply


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ('{"equivalent": true}', True),
        ('\n {"reason": "{no}", "equivalent": false} \n', False),
        ('```json\n{"equivalent": true}\n```', True),
        ('```\n{"equivalent": true}\n```', True),
        ('Sure! {"equivalent": true}', None),
        ('{"equivalent": true} {"equivalent": true}', None),
        ('{"equivalent": true, "equivalent": false}', None),
        ('{"equivalent": null}', None),
        ('{"equivalent": 1}', None),
        ('{"Equivalent": true}', None),
        ('[{"equivalent": true}]', None),
        ("true", None),
        ("[" * 100_000, None),
    ],
)
def test_only_one_object_with_a_boolean_is_a_verdict(reply, wanted):
    assert parse_verdict(reply) is wanted


@settings(deadline=None)
@given(st.text(max_size=30), st.booleans(), st.text(min_size=1, max_size=5))
def test_whatever_is_around_or_in_it_a_verdict_is_read_or_refused(reason, said, around):
    reply = json.dumps({"reason": reason, "equivalent": said})
    assert parse_verdict(reply) is said
    if around.strip():
        assert parse_verdict(around + reply) is None and parse_verdict(reply + around) is None


# The cache and the report


def test_a_second_run_asks_nothing_and_says_the_same(tmp_path):
    cache, pairs = tmp_path / "judge.jsonl", [("a", "b"), ("a", "A"), ("c", "c")]
    with Server(ruled(fair)) as server:
        endpoint = Endpoint(server.url, "m", cache=cache)
        runs = [
            judge(*zip(*pairs, strict=True), ["?"] * 3, endpoint=endpoint, groups=["g"] * 3)
            for _ in range(2)
        ]
    one, two = runs
    assert len(server.requests) == 4
    assert (one.report["asked"], one.report["from_cache"]) == (4, 0)
    assert (two.report["asked"], two.report["from_cache"]) == (0, 4)
    np.testing.assert_array_equal(one.scores, two.scores)
    assert one.report["self_agreement"] == two.report["self_agreement"]


def test_two_rubrics_share_nothing_in_the_cache(tmp_path):
    rubric, cache = tmp_path / "strict.jinja", tmp_path / "judge.jsonl"
    rubric.write_text("Is {{ a }} identical to {{ b }}?")
    with Server(lambda n, p: verdict("identical to" in p)) as server:
        endpoint = Endpoint(server.url, "m", cache=cache)
        runs = [
            judge(["a"], ["b"], ["?"], endpoint=endpoint, groups=["g"], rubric=rules)
            for rules in (None, rubric, None)
        ]
    assert [run.scores[0] for run in runs] == [0, 1, 0]
    assert len(server.requests) == 4
    built_in, own, _ = (run.report["rubric"] for run in runs)
    assert (built_in["name"], own["name"]) == ("built-in", "strict.jinja")
    assert len(built_in["sha256"]) == 64 and built_in["sha256"] != own["sha256"]


def test_the_report_says_what_judged_and_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with Server(ruled(fair)) as server:
        address = server.url.replace("//", "//ann:pass-word@") + "?key=hidden-query"
        endpoint = Endpoint(address, "judge-7b", cache=tmp_path / "judge.jsonl")
        found = judge(["a"], ["A"], ["?"], endpoint=endpoint, groups=["g"], seed=3)
    report = found.report
    assert (report["model"], report["endpoint"]) == ("judge-7b", server.url)
    assert (report["temperature"], report["seed"], report["labels"]) == (0, 3, None)
    written = json.dumps(report, allow_nan=False).encode()
    for data in (written, *tree(tmp_path).values()):
        for secret in (SECRET, "pass-word", "hidden-query"):
            assert secret.encode() not in data


# The rubric


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{% if %}", "not a valid jinja2 template"),
        ("{{ a }}", r"does not show the answer `\{\{ b \}\}`"),
        ("{{ a }} {{ b }} {{ c }}", "cannot be rendered: 'c' is undefined"),
        ("{{ a }} {{ b / 0 }}", "cannot be rendered"),
        ("{{ a.__class__.__mro__ }} {{ b }}", "cannot be rendered"),
    ],
)
def test_a_bad_rubric_is_named(tmp_path, text, error):
    rubric = tmp_path / "own.jinja"
    rubric.write_text(text)
    with pytest.raises(InputError, match=rf"own\.jinja.*{error}"):
        judged(ruled(fair), [("a", "b")], rubric=rubric)
    with pytest.raises(InputError, match=r"none\.jinja: the rubric cannot be read"):
        judged(ruled(fair), [("a", "b")], rubric=tmp_path / "none.jinja")


def test_answers_are_text_in_the_rubric_and_not_templates():
    _, server = judged(lambda n, p: verdict(True), [("{{ question }}", "<b>&</b>")])
    assert all("{{ question }}" in p and "<b>&</b>" in p for p in server.prompts)


# Labels


def labelled(rows):
    return [Labelled(a=a, b=b, equivalent=true, group=g) for a, b, true, g in rows]


ROWS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1, max_size=40)


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_agreement_with_labels_is_that_of_scikit_learn(rows):
    said, true, groups = (np.array(column) for column in zip(*rows, strict=True))
    found = agreement(said, true, [str(g) for g in groups], 0)
    tn, fp, fn, tp = sklearn.confusion_matrix(true, said, labels=[False, True]).ravel().tolist()
    assert found["confusion"] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    assert found["agreement"] == pytest.approx(sklearn.accuracy_score(true, said))
    for name, score in (("precision", sklearn.precision_score), ("recall", sklearn.recall_score)):
        expected = score(true, said, zero_division=np.nan)
        assert found[name] == (None if math.isnan(expected) else pytest.approx(expected))
    if true.all() or not true.any():
        assert found["kappa"] is None and "both classes" in found["note"]
    else:
        assert found["kappa"] == pytest.approx(sklearn.cohen_kappa_score(true, said), abs=1e-12)
        assert "note" not in found
    if len(set(groups.tolist())) > 1:
        low, high = found["ci"]
        assert 0 <= low <= found["agreement"] + 1e-12 and found["agreement"] <= high + 1e-12 <= 2
    else:
        assert found["ci"] is None


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_self_agreement_does_not_depend_on_which_order_is_first(rows):
    """Cohen's kappa of both orders taken as first: scikit-learn's on the doubled list."""
    verdicts = np.array([row[:2] for row in rows], float)
    groups = [str(row[2]) for row in rows]
    found = module.self_agreement(verdicts, groups, 0)
    assert found == module.self_agreement(verdicts[:, ::-1], groups, 0)
    one, two = np.concatenate([verdicts, verdicts[:, ::-1]]).T
    if len(set(one)) == 1:
        assert found["kappa"] is None and found["agreement"] == 1
    else:
        expected = sklearn.cohen_kappa_score(one, two)
        assert found["kappa"] == pytest.approx(expected, abs=1e-12)


def test_the_judge_is_measured_against_labels():
    rows = [
        ("a", "A", True, "g1"),  # tp
        ("a", "b", True, "g1"),  # fn
        ("c", "C", False, "g2"),  # fp
        ("c", "d", False, None),  # tn
        ("e", "e", True, None),  # tp, not asked
        ("p", "q", True, "g3"),  # says both, by the order: not equivalent, fn
        ("x", "y", True, "g4"),  # unscored
    ]

    def rule(number, prompt):
        a, b = ANSWERS.search(prompt).groups()
        assert "<question>" not in prompt
        return Answer("hm") if "x" in (a, b) else verdict(fair(a, b) or (a, b) == ("p", "q"))

    with Server(rule) as server:
        endpoint = Endpoint(server.url, "m", tries=1)
        found = against_labels(labelled(rows), endpoint=endpoint)
    assert found["confusion"] == {"tp": 2, "fp": 1, "fn": 2, "tn": 1}
    assert (found["n"], found["groups"], found["pairs"], found["equal"]) == (6, 5, 7, 1)
    assert found["unscored"] == {"no acceptable reply": 1}
    assert found["agreement"] == 0.5 and found["kappa"] == 0
    assert found["precision"] == pytest.approx(2 / 3) and found["recall"] == 0.5
    assert found["ci"][0] < 0.5 < found["ci"][1]
    assert found["self_agreement"]["n"] == 5 and found["self_agreement"]["agreement"] == 0.8
    assert json.dumps(found, allow_nan=False)


def test_the_question_of_a_labelled_pair_is_shown():
    pair = Labelled(a="a", b="b", equivalent=True, query="How?")
    with Server(ruled(fair)) as server:
        against_labels([pair], endpoint=Endpoint(server.url, "m"))
    assert all("<question>\nHow?\n</question>" in prompt for prompt in server.prompts)


def test_without_labels_everything_is_null():
    found = against_labels([], endpoint=Endpoint("http://localhost", "m"))
    names = ("agreement", "ci", "kappa", "precision", "recall")
    assert found["n"] == 0 and all(found[name] is None for name in names)


@pytest.mark.parametrize("table", [[[0, 0], [0, 0]], [[9, 0], [0, 0]], [[0, 0], [0, 9]]])
def test_kappa_is_null_where_chance_alone_would_agree(table):
    assert kappa(np.array(table)) is None

"""Every number of a row against plain loops over the answers."""

import random

import numpy as np
import pytest
import sacrebleu
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from test_answers import SEEDS, WORDS, answer, drawn, shared_ids

from accord.evaluate.answers import entrants, share
from accord.evaluate.rows import score_rows
from accord.evaluate.scoring import choose
from accord.evaluate.stage import evaluate
from accord.registry import register

ROUGE = RougeScorer(["rougeL"])
BINS = {"1-10": (0, 10), "11-30": (11, 30), "31-100": (31, 100), "101-": (101, 10**9)}


def overlap(a, b):
    """Jaccard of words; nothing to say on pairs of a length divisible by three."""
    x, y = set(a.split()), set(b.split())
    return len(x & y) / len(x | y) if x | y and (len(a) + len(b)) % 3 else float("nan")


@register("metrics", "picky")
def picky(first, second):
    return np.array([overlap(a, b) for a, b in zip(first, second, strict=True)], np.float64)


@register("metrics", "silent")
def silent(first, second):
    return np.full(len(first), np.nan)


def f1(a, b):
    return ROUGE.score(a, b)["rougeL"].fmeasure


SCORES = {
    "em": lambda a, b: float(a == b),
    "rs": lambda a, b: float(f1(a, b) > 0.7),
    "rs_area": f1,
    "picky": overlap,
}


def said(files, model):
    """Label of a seed -> id -> (answer, passages)."""
    found = {}
    for label, answers in files.items():
        for a in answers:
            if a.model == model and not a.repeat:
                found.setdefault(label, {})[a.id] = (a.answer, a.passages)
    return found


def retrieval(a, b):
    if not a and not b:
        return "unknown"
    same = "reordered" if sorted(a) == sorted(b) else "changed"
    return "same" if a == b else same


def parts_of(kind, a, b, unseen):
    """The paths that a pair of an original and a variation counts in."""
    words = max(len(text.split()) for text, _ in (a, b))
    (length,) = [name for name, (least, most) in BINS.items() if least <= words <= most]
    yield from [(), ("by_type", kind), ("by_length", length)]
    yield "by_retrieval", retrieval(a[1], b[1])
    if kind in unseen:
        yield ("unseen",)


def row_by_loops(files, references, model, unseen):
    """(path, metric) -> (question, value) of every seed, the mean of which is the row's number."""
    ids = shared_ids(files)
    kinds = {a.id: (a.original_id, a.type) for answers in files.values() for a in answers}
    found = {}

    def add(path, metric, question, value):
        if value == value:
            found.setdefault((path, metric), []).append((question, value))

    for label, own in said(files, model).items():
        for question in sorted(ids & set(references)):
            group = [question, *sorted(i for i in ids if kinds[i][0] == question)]
            if (references[question] or "").strip():
                text = own[question][0]
                add((), "rouge_l", question, f1(references[question], text))
            for metric, score in SCORES.items():
                pairs = [
                    score(own[a][0], own[b][0]) for i, a in enumerate(group) for b in group[i + 1 :]
                ]
                pairs = [value for value in pairs if value == value]
                if pairs:
                    add(("group",), metric, question, sum(pairs) / len(pairs))
                    add(("worst",), metric, question, min(pairs))
                for id_ in group[1:]:
                    value = score(own[question][0], own[id_][0])
                    for path in parts_of(kinds[id_][1], own[question], own[id_], unseen):
                        add(path, metric, question, value)
        for a in files[label]:
            if a.model == model and a.repeat and a.id in ids and (kinds[a.id][0] or a.id) in ids:
                for metric, score in SCORES.items():
                    value = score(own[a.id][0], a.answer)
                    add(("noise_floor",), metric, kinds[a.id][0] or a.id, value)
    return found


def row_of(row):
    """(path, metric) -> value of everything that a row of SCORES holds."""
    names = {"rouge_l", *SCORES}
    found = {((), name): row[name] for name in names if row.get(name) is not None}
    for part in ("group", "worst", "unseen", "noise_floor"):
        found |= {((part,), n): v for n, v in row.get(part, {}).items() if n in names}
    for part in ("by_type", "by_length", "by_retrieval"):
        for kind, own in row.get(part, {}).items():
            found |= {((part, kind), n): v for n, v in own.items() if n in names}
    return {key: value for key, value in found.items() if value is not None}


def part_of(row, path):
    for step in path:
        row = row[step]
    return row


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_every_number_is_that_of_plain_loops(seed):
    source = random.Random(seed)
    files, references = drawn(source)
    rows = entrants(files)
    assume(rows and (len(rows) == 1 or shared_ids(files) & set(references)))
    unseen = {"semantic"}
    chosen = {"accuracy": ("rouge_l",), "consistency": ("em", "rs", "picky")}
    scores = evaluate(files, references, trained=["how_to_do"], resamples=5, **chosen)
    for name, row in scores["models"].items():
        expected = row_by_loops(files, references, name, unseen)
        found = row_of(row)
        assert found.keys() == expected.keys()
        seeds = len(said(files, name))
        for key, value in found.items():
            values = [v for _, v in expected[key]]
            assert value == pytest.approx(sum(values) / len(values), abs=1e-12), key
        sizes = {}
        for (path, _), values in expected.items():
            if path:
                n, pairs = sizes.get(path, (0, 0))
                n = max(n, len({question for question, _ in values}))
                sizes[path] = n, max(pairs, round(len(values) / seeds))
        for path, (n, pairs) in sizes.items():
            part = part_of(row, path)
            assert part["n"] == n
            assert path[0] in {"group", "worst"} or part["pairs"] == pairs


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_counts_are_those_of_plain_loops(seed):
    source = random.Random(seed)
    files, references = drawn(source)
    rows = entrants(files)
    assume(rows and (len(rows) == 1 or shared_ids(files) & set(references)))
    models = evaluate(files, references, consistency=("em", "picky"), resamples=5)["models"]
    ids = shared_ids(files)
    questions = ids & set(references)
    pairs = {i for i in ids - questions if i.split("-")[0] in questions}
    for name, row in models.items():
        own = said(files, name)
        texts = [text for found in own.values() for text, _ in found.values()]
        assert row["empty_answers"] == sum(not text.strip() for text in texts)
        assert (row["questions"], row["pairs"]) == (len(questions), len(pairs))
        held = [i for found in own.values() for i in found if i not in references]
        lost = [i for f in own.values() for i in f if i not in references and i[:2] not in f]
        assert row["missing_pairs"] == len(lost)
        originals = sum(i in references for found in own.values() for i in found)
        assert row["left_out"] == {
            "questions": originals - len(own) * len(questions),
            "pairs": len(held) - len(lost) - len(own) * len(pairs),
        }
        missing = [
            1 for f in own.values() for i in pairs if np.isnan(overlap(f[i[:2]][0], f[i][0]))
        ]
        assert row["unscored"] == ({"picky": len(missing)} if missing else {})


def test_a_metric_that_says_nothing_is_null_and_counted(recwarn):
    answers = [answer("B", f"q{i}", "a") for i in range(3)]
    answers += [answer("B", f"v{i}", "a", f"q{i}") for i in range(3)]
    references = {f"q{i}": "a" for i in range(3)}
    row = evaluate(answers, references, consistency=("silent",), resamples=5)["models"]["B"]
    assert row["silent"] is row["ci"]["silent"] is None
    assert row["unscored"] == {"silent": 3}
    assert row["by_type"] == {}
    assert row["worst_questions"] == []
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 3))
def test_bleu_of_several_seeds_is_that_of_all_their_answers(seed, seeds):
    source = random.Random(seed)
    references = {f"q{i}": " ".join(source.choices(WORDS, k=12)) for i in range(5)}
    files = {}
    for label in range(seeds):
        texts = {q: f"{wanted} {source.choice(WORDS)}" for q, wanted in references.items()}
        files[str(label)] = [answer("B", q, text) for q, text in texts.items()]
    every = [a for answers in files.values() for a in answers]
    wanted = [references[a.id] for a in every]
    expected = sacrebleu.corpus_bleu([a.answer for a in every], [wanted]).score / 100
    row = evaluate(files, references, consistency=(), resamples=5)["models"]["B"]
    assert row["bleu"] == pytest.approx(expected, abs=1e-12)
    assert row["ci"]["bleu"][0] < row["bleu"] < row["ci"]["bleu"][1]


def test_a_question_counts_once_however_many_seeds_or_wordings_it_has():
    one = [answer("B", "q0", "a"), answer("B", "q1", "b")]
    one += [answer("B", f"q0.{v}", "a", "q0") for v in range(9)] + [answer("B", "q1.0", "c", "q1")]
    references = {"q0": "a", "q1": "b"}
    row = evaluate(one, references, consistency=("em",), resamples=50)["models"]["B"]
    assert row["em"] == pytest.approx(0.9)
    assert row["group"]["em"] == row["worst"]["em"] == pytest.approx(0.5)
    again = evaluate({"0": one, "1": one}, references, consistency=("em",), resamples=50)
    twice = again["models"]["B"]
    assert (twice["em"], twice["ci"], twice["group"]) == (row["em"], row["ci"], row["group"])
    assert twice["by_type"] == row["by_type"]


def test_each_distinct_pair_of_texts_is_scored_once():
    calls = []

    @register("metrics", "counted")
    def counted(first, second):
        calls.append(list(zip(first, second, strict=True)))
        return np.zeros(len(first))

    answers = [answer(m, f"q{i}", "yes", query="?") for m in "BC" for i in range(20)]
    answers += [
        answer(m, f"q{i}.{v}", "no", f"q{i}", query="?")
        for m in "BC"
        for i in range(20)
        for v in range(2)
    ]
    references = {f"q{i}": "no" for i in range(20)}
    evaluate(answers, references, accuracy=("counted",), consistency=("em",), resamples=5)
    evaluate(answers, references, consistency=("counted",), resamples=5)
    assert [sorted(call) for call in calls] == [[("yes", "no")], [("no", "no"), ("yes", "no")]]


def test_the_judge_is_asked_for_originals_and_variations_alone():
    from accord.evaluate.scoring import Resources

    asked = []

    def judge(first, second, words, owners):
        asked.extend(zip(first, second, words, owners, strict=True))
        return np.array([0.5 if "b" in b else np.nan for b in second])

    answers = [answer("B", "q0", "a")]
    answers += [answer("B", f"q0.{v}", text, "q0") for v, text in enumerate("bcb")]
    resources = Resources(judge=judge)
    row = evaluate(answers, {"q0": None}, consistency=("em",), resources=resources, resamples=5)[
        "models"
    ]["B"]
    assert sorted(asked) == [
        ("a", "b", "q0? q0.0?", "q0"),
        ("a", "b", "q0? q0.2?", "q0"),
        ("a", "c", "q0? q0.1?", "q0"),
    ]
    assert (row["judge"], row["unscored"]) == (0.5, {"judge": 1})
    assert "judge" not in row["group"]


def test_a_repeat_of_another_wording_or_of_none_is_no_noise_floor():
    answers = [
        answer("B", "q0", "a"),
        answer("B", "q0", "b", repeat=1),
        answer("B", "q0", "a", repeat=2, query="another?"),
        answer("B", "q1", "a", repeat=1),
    ]
    rows = entrants({"0": answers})
    (own,) = score_rows(rows, share(rows, {"q0": None, "q1": None}), choose((), ("em",)))
    assert own.seeds["0"].floor["em"].tolist() == [0]
    assert own.seeds["0"].floor_owner.tolist() == [0]


def test_scores_of_a_pair_go_to_the_right_row():
    """Texts that rows share are scored once; every row must still get its own."""
    source = random.Random(4)
    files, references = drawn(source, models=3, seeds=2, missing=0)
    rows = entrants(files)
    shared = share(rows, references)
    chosen = choose(("rouge_l",), ("em", "rs", "picky"))
    for own in score_rows(rows, shared, chosen):
        for label, seed in own.seeds.items():
            texts = own.row.seeds[label]
            for i, (a, b) in enumerate(zip(shared.first, shared.second, strict=True)):
                for name, score in SCORES.items():
                    expected = score(texts[a].answer, texts[b].answer)
                    assert seed.pairs[name][i] == pytest.approx(expected, abs=1e-12, nan_ok=True)

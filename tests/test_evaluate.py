import json
import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from test_answers import SEEDS, TYPES, answer, data, drawn, shared_ids

from accord.errors import InputError, RunError
from accord.evaluate.guard import conflict
from accord.evaluate.scoring import Resources
from accord.evaluate.stage import ALWAYS, CURVE, evaluate
from accord.registry import register

ROUGE = RougeScorer(["rougeL"])
LETTERS = Resources(
    encode=lambda batch: np.array([[t.count(c) for c in "abcdefgh "] for t in batch], np.float32),
    encoder="letters",
)
SHOWN = ("rouge_l", "bleu", "em", "rs", "rs_area")  # scored without an encoder


def quick(answers, references, **options):
    return evaluate(
        answers, references, **{"resamples": 100, "consistency": ("em", "rs", "bs"), **options}
    )


def f1(a, b):
    return ROUGE.score(a, b)["rougeL"].fmeasure


# --- Scores


def test_scores_are_those_of_the_reference_packages():
    answers, references = data(questions=30)
    scores = quick(answers, references, resources=LETTERS)
    assert list(scores["models"]) == ["B", "SFT"]
    for model, row in scores["models"].items():
        own = {a.id: a for a in answers if a.model == model}
        said, wanted = [own[id_].answer for id_ in references], list(references.values())
        expected = [f1(w, s) for w, s in zip(wanted, said, strict=True)]
        assert row["rouge_l"] == pytest.approx(np.mean(expected), abs=1e-12)
        bleu = sacrebleu.corpus_bleu(said, [wanted]).score / 100
        assert row["bleu"] == pytest.approx(bleu, abs=1e-12)
        pairs = [(own[a.original_id].answer, a.answer) for a in own.values() if a.original_id]
        area = np.array([f1(a, b) for a, b in pairs])
        assert row["em"] == pytest.approx(np.mean([a == b for a, b in pairs]))
        assert row["rs"] == pytest.approx((area > 0.7).mean())
        assert row["rs_area"] == pytest.approx(area.mean())
        assert row["rs_curve"] == {"T": list(CURVE), "rs": [(area > t).mean() for t in CURVE]}
        fine = [(area > t).mean() for t in (np.arange(1000) + 0.5) / 1000]
        assert row["rs_area"] == pytest.approx(np.mean(fine), abs=1e-3)
        assert 0 < row["bs"] <= 1
        assert (row["n"], row["questions"], row["pairs"]) == (30, 30, 60)
        for metric in ALWAYS:
            low, high = row["ci"][metric]
            assert 0 <= low <= row[metric] <= high <= 1
    assert all(scores["detectable"][metric] > 0 for metric in ALWAYS)


def test_answers_without_any_rewording_have_accuracy_alone():
    answers, references = data(questions=5)
    scores = evaluate([a for a in answers if a.original_id is None], references, resamples=100)
    for row in scores["models"].values():
        assert row["rouge_l"] > 0 and row["rs"] is None and row["pairs"] == 0


def test_by_type_adds_up():
    answers, references = data()
    for row in quick(answers, references)["models"].values():
        parts = row["by_type"]
        assert list(parts) == sorted(TYPES)
        assert sum(part["pairs"] for part in parts.values()) == row["pairs"]
        total = sum(part["em"] * part["pairs"] for part in parts.values())
        assert total / row["pairs"] == pytest.approx(row["em"])
        assert all(part["bs"] is None for part in parts.values())


def test_every_default_metric_is_scored_and_signed():
    scores = evaluate(*data(), resamples=20, resources=LETTERS, T=0.5, seed=3)
    for row in scores["models"].values():
        assert all(0 <= row[m] <= 1 for m in (*ALWAYS, "containment"))
    signatures = scores["signatures"]
    assert signatures["metrics"]["accuracy"] == {"rouge_l": {}, "bleu": {}}
    assert list(signatures["metrics"]["consistency"]) == ["em", "rs", "bs", "containment"]
    assert (signatures["rs"], signatures["T"]) == ("ROUGE-L F1 > 0.5", 0.5)
    assert "letters" in signatures["bs"]
    assert signatures["bootstrap"]["resamples"] == 20
    assert signatures["bootstrap"]["seed"] == 3
    assert signatures["scored"] == {"contexts": "own", "repeat": 0}


def test_the_guard_counts_its_refusals_of_originals_with_variations():
    said = {
        "q0": ["Yes, you can pay.", "No, you cannot pay.", "Yes, you can pay."],
        "q1": ["It takes 30 days.", "It takes 60 days.", "I do not know."],
    }
    answers = []
    for question, (original, *others) in said.items():
        answers.append(answer("B", question, original))
        answers += [answer("B", f"{question}.{v}", t, question) for v, t in enumerate(others)]
    row = evaluate(answers, dict.fromkeys(said), resamples=5)["models"]["B"]
    expected = Counter(
        reason
        for original, *others in said.values()
        for other in others
        if (reason := conflict(original, other, ""))
    )
    assert row["guard"] == expected
    assert row["guard"] == {"yes_no": 1, "numbers": 1, "refusal": 1}
    assert "guard" not in quick(answers, dict.fromkeys(said))["models"]["B"]


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(source):
    answers, references = data(models=("B", "SFT", "ALL"))
    options = {"resources": LETTERS, "focus": "SFT"}
    expected = quick(answers, references, **options)
    source.shuffle(answers)
    mixed = dict(source.sample(list(references.items()), len(references)))
    found = quick(answers, mixed, **options)
    for scores in (found, expected):
        scores["pareto"]["front"].sort()  # in the order of the models
    assert found == expected  # the same to the last bit; dicts compare without order
    assert list(found["models"]) == list(dict.fromkeys(a.model for a in answers))


def test_a_model_scores_the_same_in_any_company():
    answers, references = data(models=("B", "SFT", "ALL"))
    alone = quick([a for a in answers if a.model == "SFT"], references)
    assert quick(answers, references)["models"]["SFT"] == alone["models"]["SFT"]
    assert alone["comparisons"] is None
    assert alone["detectable"] == dict.fromkeys(ALWAYS)


def test_a_comparison_is_the_same_in_any_company():
    answers, references = data(models=("B", "SFT", "ALL"))
    three = quick(answers, references)["comparisons"]
    two = quick([a for a in answers if a.model != "ALL"], references)["comparisons"]
    assert (three["focus"], list(three["against"])) == ("B", ["SFT", "ALL"])
    assert three["against"]["SFT"] == two["against"]["SFT"]


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_scores_are_json_without_nan(seed):
    files, references = drawn(random.Random(seed))
    if not shared_ids(files) & set(references):
        return
    scores = quick(files, references, resamples=20)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_scores_depend_on_the_seed_alone():
    answers, references = data()
    scores = quick(answers, references)
    assert quick(answers, references) == scores
    assert quick(answers, references, seed=1)["models"]["B"]["ci"] != scores["models"]["B"]["ci"]


def test_each_distinct_answer_is_encoded_once():
    batches = []

    def watched(batch):
        batches.append(list(batch))
        return LETTERS.encode(batch)

    answers, references = data()
    quick(answers, references, resources=Resources(encode=watched))
    assert len(batches) == 1
    assert batches[0] == sorted({a.answer for a in answers})


@pytest.mark.parametrize("text", ["yes", "30 days", "Sí"])
def test_identical_answers_agree(text):
    answers = [answer("B", f"q{i}", text) for i in range(5)]
    answers += [answer("B", f"v{i}", text, f"q{i}") for i in range(5)]
    row = quick(answers, {f"q{i}": None for i in range(5)})["models"]["B"]
    assert row["em"] == row["rs"] == row["rs_area"] == 1
    assert row["group"]["em"] == row["worst"]["em"] == 1
    assert row["ci"]["em"][0] < 1  # five questions are no certainty


# --- What is not there


def test_without_references_only_agreement_is_scored():
    answers, references = data()
    scores = quick(answers, dict.fromkeys(references))
    row = scores["models"]["B"]
    assert row["rouge_l"] is row["bleu"] is row["ci"]["bleu"] is None
    assert (row["n"], row["without_reference"], row["pairs"]) == (0, 12, 24)
    assert row["em"] is not None
    assert scores["pareto"]["front"] == []


def test_some_references_are_missing_or_blank():
    answers, references = data()
    some = references | {"q0": None, "q1": " "}
    row = quick(answers, some)["models"]["B"]
    own = {a.id: a.answer for a in answers if a.model == "B"}
    expected = np.mean([f1(references[q], own[q]) for q in references if q not in {"q0", "q1"}])
    assert row["rouge_l"] == pytest.approx(expected, abs=1e-12)
    assert (row["n"], row["without_reference"], row["pairs"]) == (10, 2, 24)
    assert row["em"] == quick(answers, references)["models"]["B"]["em"]


def test_without_variations_only_accuracy_is_scored():
    answers, references = data()
    scores = quick([a for a in answers if a.original_id is None], references)
    for row in scores["models"].values():
        assert (row["n"], row["pairs"], row["by_type"]) == (12, 0, {})
        assert row["em"] is row["rs"] is row["ci"]["rs"] is None
        assert row["rouge_l"] is not None
        assert not {"rs_curve", "group", "worst", "by_length"} & set(row)
        assert row["worst_questions"] == []
    assert (
        "12 questions without an answered variation: nothing is said on their consistency"
        in (scores["warnings"])
    )


def test_a_variation_alone_is_a_missing_pair():
    row = quick([answer("B", "v0", "yes", "q0")], {"q0": "yes"})["models"]["B"]
    assert (row["n"], row["pairs"], row["missing_pairs"]) == (0, 0, 1)
    assert all(row[metric] is None for metric in ALWAYS)


def test_one_question_has_scores_and_no_interval():
    answers = [answer("B", "q0", "yes", "q0"), answer("B", "v0", "yes", "q0", type=None)]
    row = quick(answers, {"q0": "yes"})["models"]["B"]
    assert (row["n"], row["pairs"], row["em"]) == (1, 1, 1)
    assert list(row["by_type"]) == ["untyped"]
    assert row["ci"]["em"] is row["by_type"]["untyped"]["ci"]["em"] is None


@pytest.mark.parametrize("role", ["accuracy", "consistency"])
@pytest.mark.parametrize("metric", ["bs", "bertscore"])
def test_a_metric_without_its_encoder_is_null_and_named(role, metric):
    options = {"accuracy": ("rouge_l",), "consistency": ("em", "rs"), role: (metric,)}
    scores = quick(*data(), **options)
    row = scores["models"]["B"]
    assert row[metric] is row["ci"][metric] is None
    assert list(scores["signatures"]["metrics"]["unscored"]) == [metric]
    assert scores["signatures"]["bs"].startswith("unscored")
    assert metric not in row["unscored"]  # which counts pairs without a score
    assert metric not in scores["comparisons"]["against"]["SFT"]


def test_no_metrics_at_all_is_only_counted():
    row = quick(*data(), accuracy=(), consistency=())["models"]["B"]
    assert all(row[metric] is None for metric in ALWAYS)
    assert (row["questions"], row["pairs"]) == (12, 24)


def test_empty_answers_and_answers_without_tokens_are_counted():
    answers = [
        answer("B", "q0", ""),
        answer("B", "v0", "", "q0"),
        answer("B", "q1", "да"),
        answer("B", "v1", "да", "q1"),
        answer("B", "q2", "yes"),
        answer("B", "v2", " ", "q2"),
    ]
    row = quick(answers, {"q0": "no", "q1": "yes", "q2": "yes"})["models"]["B"]
    assert row["em"] == pytest.approx(2 / 3)
    assert row["rs"] == 0
    assert row["rouge_l"] == pytest.approx(1 / 3)
    assert (row["empty_answers"], row["without_tokens"]) == (3, 2)


def test_what_a_model_lacks_is_left_out_for_all_and_counted():
    answers, references = data()
    lacking = [a for a in answers if (a.model, a.id) not in {("SFT", "q2"), ("SFT", "q4.1")}]
    models = quick(lacking, references)["models"]
    # SFT lacks question q2, which has 3 variations, and one variation of q4.
    assert {(row["n"], row["pairs"]) for row in models.values()} == {(11, 20)}
    assert models["B"]["left_out"] == {"questions": 1, "pairs": 4}
    assert models["SFT"]["left_out"] == {"questions": 0, "pairs": 0}
    assert (models["B"]["missing_pairs"], models["SFT"]["missing_pairs"]) == (0, 3)
    kept = [a for a in answers if a.id.split(".")[0] != "q2" and a.id != "q4.1"]
    alone = quick(kept, {q: r for q, r in references.items() if q != "q2"})["models"]
    assert all(models[m][name] == alone[m][name] for m in models for name in (*SHOWN, "ci"))


def test_other_contexts_are_set_aside_and_repeats_are_the_noise_floor():
    answers, references = data()
    expected = quick(answers, references)["models"]
    extra = [
        answer("B", "q0", "x", contexts="gold"),
        answer("B", "q0", "x", repeat=1),
        answer("oracle", "q0", "x", contexts="gold"),
        answer("again", "q0", "x", repeat=1),
    ]
    scores = quick([*extra, *answers], references)
    floor = scores["models"]["B"].pop("noise_floor")
    assert scores["models"] == expected
    assert (floor["em"], floor["n"], floor["pairs"]) == (0, 1, 1)
    assert scores["signatures"]["set_aside"] == {
        "answers": 3, "repeats": 1, "models": ["again", "oracle"]
    }  # fmt: skip


def test_an_answer_of_a_hundred_thousand_characters():
    words = " ".join(str(i) for i in range(17_000))
    answers = [answer("B", "q0", words), answer("B", "v0", f"no {words}", "q0")]
    answers.append(answer("B", "v1", "x" * 100_000, "q0"))
    row = quick(answers, {"q0": words})["models"]["B"]
    assert (row["rouge_l"], row["rs"], row["em"]) == (1, 0.5, 0)
    (worst,) = row["worst_questions"]
    assert max(len(a["answer"]) for a in worst["answers"]) == 600


# --- Several seeds


def test_several_seeds_are_averaged_and_shown():
    first, references = data(seed=0)
    second = [a.model_copy(update={"answer": b.answer}) for a, b in zip(first, data(seed=1)[0])]  # noqa: B905
    files = {"0": first, "7": second}
    for name, row in quick(files, references)["models"].items():
        alone = [quick(own, references)["models"][name] for own in files.values()]
        assert list(row["seeds"]) == ["0", "7"]
        for metric in ("rouge_l", "em", "rs", "rs_area"):
            own = [a[metric] for a in alone]
            assert row[metric] == pytest.approx(np.mean(own), abs=1e-12)
            assert [s[metric] for s in row["seeds"].values()] == pytest.approx(own, abs=1e-12)
        assert [s["bleu"] for s in row["seeds"].values()] == pytest.approx(
            [a["bleu"] for a in alone], abs=1e-12
        )
        curves = [a["rs_curve"]["rs"] for a in alone]
        assert row["rs_curve"]["rs"] == pytest.approx(np.mean(curves, axis=0))
    assert "seeds" not in alone[0]


def test_a_seed_without_variations_has_null_and_not_nan():
    files = {label: [answer("B", "q0", label)] for label in "01"}
    row = quick(files, {"q0": "1"})["models"]["B"]
    assert [seed["rouge_l"] for seed in row["seeds"].values()] == [0, 1]
    assert [seed["em"] for seed in row["seeds"].values()] == [None, None]


def test_a_copied_seed_is_told_and_adds_no_certainty():
    answers, references = data()
    one, two = quick(answers, references), quick({"0": answers, "1": answers}, references)
    assert "`B`: seed `1` has the answers of another seed" in two["warnings"]
    assert not [w for w in one["warnings"] if "another seed" in w]
    for name, row in two["models"].items():
        assert all(row["ci"][m] == one["models"][name]["ci"][m] for m in SHOWN)


# --- What the table says of itself


@pytest.mark.parametrize(("questions", "warned"), [(19, True), (20, False)])
def test_few_questions_are_warned_of(questions, warned):
    found = quick(*data(questions=questions), resamples=5)["warnings"]
    assert any(w.startswith(f"{questions} questions: with fewer than 20") for w in found) == warned


def test_focus_is_the_merged_model_unless_another_is_named():
    answers, references = data(models=("B", "Merged", "ALL"))
    assert quick(answers, references)["comparisons"]["focus"] == "Merged"
    found = quick(answers, references, focus="ALL")["comparisons"]
    assert (found["focus"], list(found["against"])) == ("ALL", ["B", "Merged"])


def test_detectable_is_the_largest_of_the_comparisons():
    scores = quick(*data(questions=40, models=("B", "SFT", "ALL")))
    for metric in SHOWN:
        own = [e[metric]["detectable"] for e in scores["comparisons"]["against"].values()]
        assert scores["detectable"][metric] == max(own)


def test_trained_kinds_leave_the_others_unseen():
    answers, references = data()
    seen = quick(answers, references, trained=["how_to_do", "i_we"])
    assert seen["signatures"]["trained"] == ["how_to_do", "i_we"]
    for row in seen["models"].values():
        unseen = {name: v for name, v in row["unseen"].items() if name != "ci"}
        assert unseen == {n: v for n, v in row["by_type"]["semantic"].items() if n != "ci"}
    assert "unseen" not in quick(answers, references, trained=TYPES)["models"]["B"]
    unknown = quick(answers, references)
    assert "unseen" not in unknown["models"]["B"]
    assert unknown["signatures"]["trained"] is None


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_the_front_is_of_rows_that_no_other_beats(seed):
    answers, references = data(questions=4, models="ABCDE", seed=seed)
    scores = quick(answers, references, resamples=2)
    points = {name: (row["rouge_l"], row["rs"]) for name, row in scores["models"].items()}
    expected = [
        a
        for a, (x, y) in points.items()
        if not any(u >= x and v >= y and (u > x or v > y) for u, v in points.values())
    ]
    assert scores["pareto"]["front"] == expected


def test_there_is_no_front_where_rouge_is_no_accuracy():
    options = {"accuracy": ("token_f1",), "consistency": ("rouge_l", "rs")}
    assert quick(*data(), **options)["pareto"]["front"] == []


def test_worst_questions_are_those_whose_wordings_agree_least():
    answers, references = data(questions=30)
    row = quick(answers, references)["models"]["B"]
    groups = {q: [] for q in references}
    for a in answers:
        if a.model == "B":
            groups[a.original_id or a.id].append(a)
    means = {
        q: np.mean([f1(a.answer, b.answer) for a, b in combinations(own, 2)])
        for q, own in groups.items()
    }
    expected = sorted(references, key=lambda q: (round(means[q], 12), q))[:5]
    assert [w["id"] for w in row["worst_questions"]] == expected
    for worst in row["worst_questions"]:
        own = groups[worst["id"]]
        assert worst["rs_area"] == pytest.approx(means[worst["id"]], abs=1e-12)
        assert worst["reference"] == references[worst["id"]]
        assert worst["answers"] == [
            {"id": a.id, "type": a.type, "query": a.query, "answer": a.answer} for a in own
        ]


# --- Settings and metrics that do not fit

BROKEN = {
    "infinite": lambda n: np.full(n, np.inf),
    "short": lambda n: np.zeros(n - 1),
    "wide": lambda n: np.zeros((n, 2)),
    "single": lambda n: np.float64(0.5),
    "large": lambda n: np.full(n, 1.01),
    "negative": lambda n: np.full(n, -0.01),
}


def _register(name):
    @register("metrics", f"broken_{name}")
    def broken(first, second):
        return BROKEN[name](len(first))


for _name in BROKEN:
    _register(_name)


@register("metrics", "hungry")
def hungry(first, second, *, passages):
    return np.zeros(len(first))


@register("metrics", "powered")
def powered(first, second, *, power: int = 1):
    return np.array([f1(a, b) ** power for a, b in zip(first, second, strict=True)])


@pytest.mark.parametrize("role", ["accuracy", "consistency"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_metric_is_named(name, role):
    reason = {"large": "a score outside", "negative": "a score outside"}.get(name, "an array of")
    with pytest.raises(RunError, match=f"metric `broken_{name}`: returned {reason}"):
        quick(*data(), **{role: (f"broken_{name}",)})


def test_an_encoder_that_returns_nan_is_told():
    resources = Resources(encode=lambda batch: np.full((len(batch), 3), np.nan))
    with pytest.raises(RunError, match="the encoder returned an array of shape"):
        quick(*data(), resources=resources)


def test_options_reach_the_metric():
    own = {"accuracy": (("powered", {"power": 2}),), "consistency": ("em", "rs")}
    scores = quick(*data(), **own)
    squared = scores["models"]["B"]["powered"]
    answers, references = data()
    said = {a.id: a.answer for a in answers if a.model == "B"}
    expected = np.mean([f1(said[q], text) ** 2 for q, text in references.items()])
    assert squared == pytest.approx(expected, abs=1e-12)
    assert scores["signatures"]["metrics"]["accuracy"] == {"powered": {"power": 2}}


Q0 = answer("B", "q0", "yes")
SETTINGS = [
    ({"T": 1.0}, "T: found 1.0"),
    ({"T": -0.1}, "T: found -0.1"),
    ({"resamples": 1}, "resamples: found 1; at least 2"),
    ({"focus": "Z"}, "no model `Z`; there are `B`"),
    ({"accuracy": ("rouge",)}, "evaluate.accuracy: no metric `rouge`; did you mean `rouge_l`"),
    ({"consistency": ("token_f",)}, "evaluate.consistency: .* did you mean `token_f1`"),
    ({"accuracy": ("em",)}, "`em` is a metric of consistency"),
    ({"accuracy": ("rs",)}, "`rs` is a metric of consistency"),
    ({"consistency": ("bleu",)}, "`bleu` is of a corpus"),
    ({"accuracy": ("token_f1",), "consistency": ("token_f1",)}, "`token_f1` stands under accuracy"),
    ({"consistency": (("rs", {"T": 0.5}),)}, "rs.T: give it as `T`"),
    ({"consistency": ("hungry",)}, "metric `hungry` asks for `passages`; it may ask for"),
    ({"accuracy": (("powered", {"powr": 2}),)}, "no such option; did you mean `power`"),
    ({"accuracy": (("powered", {"power": "x"}),)}, r"accuracy.powered.power: found 'x'"),
]
ANSWERS = [
    ([], "there are none"),
    ([Q0, Q0], "model `B`, id `q0`, contexts `own`, repeat 0 occurs twice"),
    ([answer("B", "v", "yes", "q9")], "question `q9` is not among the references"),
    ([answer("B", "q0", "yes", contexts="gold")], "none has contexts `own`"),
    ([answer("B", "q0", "yes", repeat=1)], "none has contexts `own` and repeat 0"),
    ([Q0, answer("C", "q1", "yes")], "every one of the models `B`, `C`"),
    ([Q0, answer("C", "q0", "yes", query="other")], r"an id has one original_id, type and query"),
]


@pytest.mark.parametrize(("options", "message"), SETTINGS)
def test_a_bad_setting_is_named(options, message):
    with pytest.raises(InputError, match=message):
        quick([Q0], {"q0": "yes"}, **options)


@pytest.mark.parametrize(("answers", "message"), ANSWERS)
def test_bad_answers_are_named(answers, message):
    with pytest.raises(InputError, match=message):
        quick(answers, {"q0": "yes", "q1": "no"})

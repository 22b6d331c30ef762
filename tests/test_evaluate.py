import json
import random
from io import StringIO

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rouge_score.rouge_scorer import RougeScorer

from accord.errors import InputError
from accord.evaluate.stage import METRICS, evaluate
from accord.evaluate.table import number, render, rows, table
from accord.records import Answer

WORDS = [
    "pay",
    "the",
    "refund",
    "within",
    "thirty",
    "days",
    "you",
    "can",
    "log",
    "in",
    "with",
    "a",
    "password",
    "never",
    "ask",
]
TYPES = ("how_to_do", "semantic")


def answer(model, id_, text, original=None, **extra):
    kind = None if original is None else extra.pop("type", "semantic")
    return Answer(
        model=model, id=id_, original_id=original, type=kind, query="?", answer=text, **extra
    )


def data(questions=12, models=("B", "SFT"), seed=0):
    """Answers of models to questions with 1 to 3 variations; better models vary less."""
    source = random.Random(seed)
    references = {f"q{i}": " ".join(source.choices(WORDS, k=8)) for i in range(questions)}
    answers = []
    for rank, model in enumerate(models):
        for i, (id_, wanted) in enumerate(references.items()):
            said = blur(wanted, 0.4, source)
            answers.append(answer(model, id_, said))
            for v in range(1 + i % 3):
                text = blur(said, 0.3 / (1 + rank), source)
                answers.append(answer(model, f"{id_}.{v}", text, id_, type=TYPES[v % 2]))
    return answers, references


def blur(text, chance, source):
    return " ".join(source.choice(WORDS) if source.random() < chance else w for w in text.split())


def encode(batch):
    return np.array([[t.count(c) for c in "abcdefgh "] for t in batch], dtype=np.float32)


def quick(answers, references, **options):
    return evaluate(answers, references, **{"resamples": 100, **options})


def test_scores_are_those_of_the_reference_packages():
    answers, references = data()
    scores = quick(answers, references, encode=encode, encoder_name="letters")
    rouge = RougeScorer(["rougeL"])
    assert list(scores["models"]) == ["B", "SFT"]
    for model, row in scores["models"].items():
        own = {a.id: a for a in answers if a.model == model}
        said = [own[id_].answer for id_ in references]
        wanted = list(references.values())
        expected = [rouge.score(w, s)["rougeL"].fmeasure for w, s in zip(wanted, said, strict=True)]
        assert row["rouge_l"] == pytest.approx(np.mean(expected), abs=1e-12)
        assert row["bleu"] == pytest.approx(
            sacrebleu.corpus_bleu(said, [wanted]).score / 100, abs=1e-12
        )
        pairs = [(own[a.original_id].answer, a.answer) for a in own.values() if a.original_id]
        f1 = np.array([rouge.score(a, b)["rougeL"].fmeasure for a, b in pairs])
        assert row["em"] == pytest.approx(np.mean([a == b for a, b in pairs]))
        assert row["rs"] == pytest.approx((f1 > 0.7).mean())
        assert row["rs_area"] == pytest.approx(f1.mean())
        curve = [(f1 > t).mean() for t in (np.arange(1000) + 0.5) / 1000]
        assert row["rs_area"] == pytest.approx(np.mean(curve), abs=1e-3)
        assert 0 < row["bs"] <= 1
        assert (row["n"], row["questions"], row["pairs"]) == (12, 12, 24)
        for metric in METRICS:
            low, high = row["ci"][metric]
            assert 0 <= low <= row[metric] <= high <= 1
        assert all(scores["detectable"][metric] > 0 for metric in METRICS)


def test_by_type_adds_up():
    answers, references = data()
    for row in quick(answers, references)["models"].values():
        parts = row["by_type"]
        assert list(parts) == sorted(TYPES)
        assert sum(part["pairs"] for part in parts.values()) == row["pairs"]
        total = sum(part["em"] * part["pairs"] for part in parts.values())
        assert total / row["pairs"] == pytest.approx(row["em"])
        assert all(part["bs"] is None for part in parts.values())


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(source):
    answers, references = data(models=("B", "SFT", "ALL"))
    expected = quick(answers, references, encode=encode)
    source.shuffle(answers)
    shuffled_references = dict(source.sample(list(references.items()), len(references)))
    found = quick(answers, shuffled_references, encode=encode)
    assert found == expected  # the same to the last bit; dicts compare without order
    assert list(found["models"]) == list(dict.fromkeys(a.model for a in answers))


def test_a_model_scores_the_same_in_any_company():
    answers, references = data(models=("B", "SFT", "ALL"))
    alone = quick([a for a in answers if a.model == "SFT"], references)
    assert quick(answers, references)["models"]["SFT"] == alone["models"]["SFT"]
    assert alone["detectable"] == dict.fromkeys(METRICS)


def test_scores_are_json_and_depend_on_the_seed_alone():
    answers, references = data()
    scores = quick(answers, references)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    assert quick(answers, references) == scores
    assert quick(answers, references, seed=1)["models"]["B"]["ci"] != scores["models"]["B"]["ci"]


def test_without_an_encoder_bs_is_null_everywhere():
    scores = quick(*data())
    row = scores["models"]["B"]
    assert row["bs"] is row["ci"]["bs"] is scores["detectable"]["bs"] is None
    assert scores["signatures"]["bs"].startswith("unscored")
    assert scores["signatures"]["encoder"] is None


def test_each_distinct_answer_is_encoded_once():
    batches = []

    def watched(batch):
        batches.append(list(batch))
        return encode(batch)

    answers, references = data()
    quick(answers, references, encode=watched)
    assert len(batches) == 1
    assert batches[0] == sorted({a.answer for a in answers})


@given(st.sampled_from(["yes", "30 days", "Sí"]))
@settings(max_examples=3)
def test_identical_answers_agree(text):
    answers = [answer("B", f"q{i}", text) for i in range(5)]
    answers += [answer("B", f"v{i}", text, f"q{i}") for i in range(5)]
    row = quick(answers, {f"q{i}": None for i in range(5)})["models"]["B"]
    assert row["em"] == row["rs"] == row["rs_area"] == 1
    assert row["ci"]["em"][0] < 1  # five questions are no certainty


def test_without_references_only_agreement_is_scored():
    answers, references = data()
    row = quick(answers, dict.fromkeys(references))["models"]["B"]
    assert row["rouge_l"] is row["bleu"] is row["ci"]["bleu"] is None
    assert (row["n"], row["without_reference"], row["pairs"]) == (0, 12, 24)
    assert row["em"] is not None


def test_some_references_are_missing_or_blank():
    answers, references = data()
    row = quick(answers, {**references, "q0": None, "q1": " "})["models"]["B"]
    assert (row["n"], row["without_reference"]) == (10, 2)


def test_without_variations_only_accuracy_is_scored():
    answers, references = data()
    row = quick([a for a in answers if a.original_id is None], references)["models"]["B"]
    assert row["em"] is row["rs"] is row["rs_area"] is None
    assert (row["pairs"], row["by_type"]) == (0, {})
    assert row["rouge_l"] > 0


def test_empty_answers_are_counted_and_score_as_they_are():
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


def test_other_contexts_and_repeats_are_set_aside():
    answers, references = data()
    expected = quick(answers, references)["models"]
    extra = [
        answer("B", "q0", "x", contexts="gold"),
        answer("B", "q0", "x", repeat=1),
        answer("oracle", "q0", "x", contexts="gold"),
    ]
    scores = quick([*extra, *answers], references)
    assert scores["models"] == expected
    assert scores["signatures"]["set_aside"] == {"answers": 3, "models": ["oracle"]}


def test_a_variation_alone_is_a_missing_pair():
    row = quick([answer("B", "v0", "yes", "q0")], {"q0": "yes"})["models"]["B"]
    assert (row["n"], row["pairs"], row["missing_pairs"]) == (0, 0, 1)
    assert all(row[metric] is None for metric in METRICS)


def test_an_original_may_name_itself_and_a_variation_may_have_no_type():
    answers = [answer("B", "q0", "yes", "q0"), answer("B", "v0", "yes", "q0", type=None)]
    row = quick(answers, {"q0": "yes"})["models"]["B"]
    assert (row["n"], row["pairs"]) == (1, 1)
    assert list(row["by_type"]) == ["untyped"]
    assert row["ci"]["em"] is None  # one question has no interval


Q0 = answer("B", "q0", "yes")


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        ([], {}, "there are none"),
        ([Q0, Q0], {}, "model `B`, id `q0`, contexts `own`, repeat 0 occurs twice"),
        ([answer("B", "v", "yes", "q9")], {}, "question `q9` is not among the references"),
        ([answer("B", "q9", "yes")], {}, "question `q9` is not among the references"),
        ([answer("B", "q0", "yes", contexts="gold")], {}, "none has contexts `own`"),
        (
            [Q0, answer("B", "v", "a", "q0"), answer("C", "v", "a", "q1")],
            {},
            "id `v` is a wording of `q0` of type `semantic` in one place",
        ),
        ([Q0, answer("C", "q1", "yes")], {}, "every one of the models `B`, `C`"),
        ([Q0], {"T": 1.0}, "T: found 1.0"),
        ([Q0], {"resamples": 0}, "resamples: found 0"),
    ],
)
def test_bad_input_is_named(answers, options, message):
    with pytest.raises(InputError, match=message):
        quick(answers, {"q0": "yes", "q1": "no"}, **options)


def show(content, width=100):
    console = Console(file=StringIO(), width=width)
    console.print(render(content))
    return console.file.getvalue()


def test_rows_follow_the_order_and_lose_none():
    scores = quick(*data(models=("B", "SFT", "ALL")))
    found = rows(scores, ["Merged", "ALL", "B"])
    assert [row["name"] for row in found] == ["ALL", "B", "SFT"]
    assert found[1] == {"name": "B", **scores["models"]["B"]}
    assert set(table(scores)) == {"rows", "detectable", "signatures"}


def test_a_small_table_says_that_it_is_no_evidence():
    shown = " ".join(show(table(quick(*data()))).split())
    assert (
        "12 questions, 24 pairs, 1 seed: shows that the pipeline runs; it is no evidence" in shown
    )
    assert "Smallest detectable difference" in shown
    assert "BS -" in shown


def test_the_widest_table_fits_a_hundred_columns():
    answers, references = data(questions=120, models=("a rather long model name [bold]", "B"))
    content = table(quick(answers, references, encode=encode))
    content["rows"][0].update(em=1.0, n=99999, pairs=999999, questions=99999)
    content["rows"][0]["ci"]["em"] = [0.991, 1.0]
    shown = show(content)
    assert max(map(len, shown.splitlines())) <= 100
    assert "1.00 [.99-1.0]" in shown
    assert "999999" in shown
    assert "…" not in shown
    assert "no evidence" not in shown
    assert "[bold]" in "".join(line[:12].strip() for line in shown.splitlines())


def test_numbers_are_short():
    assert [number(v) for v in (None, 0.0, 0.4123, 0.9996, 1.0)] == [
        "-", ".000", ".412", "1.00", "1.00"
    ]  # fmt: skip
    assert [number(v, 2) for v in (0.004, 0.36, 1.0)] == [".00", ".36", "1.0"]

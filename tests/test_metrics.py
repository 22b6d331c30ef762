import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import fmeasure
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from torchmetrics.functional.text import squad

from accord.errors import InputError, RunError
from accord.evaluate import bleu as bleu_module
from accord.evaluate import coding, metrics
from accord.registry import check_options, component, components

ROUGE = RougeScorer(["rougeL"], use_stemmer=False)
WORDS = "a an the pay refund within 30 60 days can cannot Login password. you, it's naïve KELVIN ÅÄ"
sentences = st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join)
texts = st.one_of(sentences, st.text(max_size=40))
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)


def encode(batch):
    """Letter counts: a stand-in for a sentence encoder."""
    return np.array([[t.count(c) for c in "abcdefghij "] for t in batch], dtype=np.float32)


@given(texts, texts)
def test_rouge_is_bit_identical_to_rouge_score(a, b):
    assert metrics.rouge_l([a], [b])[0] == ROUGE.score(b, a)["rougeL"].fmeasure


def test_rouge_of_long_texts_is_bit_identical_to_rouge_score():
    random = np.random.default_rng(0)
    first, second = (
        [" ".join(random.choice(WORDS.split(), size)) for size in (30, 100, 300)] for _ in range(2)
    )
    expected = [ROUGE.score(b, a)["rougeL"].fmeasure for a, b in zip(first, second, strict=True)]
    assert metrics.rouge_l(first, second).tolist() == expected


@given(pairs)
def test_rouge_does_not_depend_on_what_else_is_scored(given_pairs):
    first, second = [a for a, _ in given_pairs], [b for _, b in given_pairs]
    together = metrics.rouge_l(first, second).tolist()
    assert together == [ROUGE.score(b, a)["rougeL"].fmeasure for a, b in given_pairs]


@given(pairs, st.integers(0, 3))
def test_rouge_and_bleu_do_not_depend_on_when_the_alphabet_is_renewed(given_pairs, renewed):
    first, second = [a for a, _ in given_pairs], [b for _, b in given_pairs]
    expected = [score(first, second).tolist() for score in (metrics.rouge_l, metrics.bleu)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coding, "_RENEWED", renewed)
        found = [score(first, second).tolist() for score in (metrics.rouge_l, metrics.bleu)]
    assert found == expected


def test_rouge_of_more_than_65536_distinct_tokens():
    words = [f"w{n}" for n in range(70_000)]  # code points past those of two bytes
    first, second = [" ".join(words), "w69999 w3"], ["w3 w69999 w70001", "w3 w69999"]
    expected = [ROUGE.score(b, a)["rougeL"].fmeasure for a, b in zip(first, second, strict=True)]
    assert metrics.rouge_l(first, second).tolist() == expected


def test_more_tokens_than_characters_are_refused(monkeypatch):
    monkeypatch.setattr(coding, "_CHARACTERS", 3)
    assert metrics.rouge_l(["a b"], ["a c"]).tolist() == [0.5]
    with pytest.raises(InputError, match="distinct words"):
        metrics.rouge_l(["a b"], ["c d"])


def slow_lcs(a, b):
    """The length of a longest common subsequence, by the table of the textbook, a row at a time."""
    codes = {token: code for code, token in enumerate({*a, *b})}
    b = np.array([codes[token] for token in b])
    row = np.zeros(len(b) + 1, dtype=int)
    for token in a:
        row[1:] = np.maximum.accumulate(np.where(b == codes[token], row[:-1] + 1, row[1:]))
    return row[-1]


def test_rouge_and_bleu_of_answers_of_100000_characters():
    random = np.random.default_rng(1)
    first, second = (" ".join(random.choice(WORDS.split(), 20_000)) for _ in range(2))
    assert min(len(first), len(second)) > 95_000
    a, b = metrics.tokenize(first), metrics.tokenize(second)
    common = slow_lcs(a, b)
    expected = fmeasure(common / len(a), common / len(b))
    assert metrics.rouge_l([first], [second]).tolist() == [expected]
    score = sacrebleu.BLEU().corpus_score([first], [[second]])
    assert metrics.bleu([first], [second])[0, 2:6].tolist() == score.counts


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.lists(st.sampled_from("abcd")))
def test_f1_of_token_lists_is_by_the_longest_common_subsequence(a, b):
    common = slow_lcs(a, b) if a and b else 0
    expected = fmeasure(common / len(a), common / len(b)) if common else 0.0
    assert metrics.lcs_f1(a, b) == expected


@given(texts, texts)
def test_token_f1_is_squads(a, b):
    expected = squad(
        {"prediction_text": a, "id": "1"},
        {"answers": {"answer_start": [0], "text": [b]}, "id": "1"},
    )["f1"]
    assert metrics.token_f1([a], [b])[0] == pytest.approx(float(expected) / 100, abs=1e-6)


@given(st.lists(st.sampled_from(["the", "\u201cthe\u201d", "a\x01an", "x", "x", "."]), max_size=9))
def test_articles_beside_marks_that_are_no_ascii_are_dropped_as_squad_does(words):
    test_token_f1_is_squads.hypothesis.inner_test(" ".join(words), "x the \u201c\u201d x")


def test_token_f1_where_no_words_are_left():
    assert metrics.token_f1(["the", "The.", "", "a"], ["An!", "fee", "", "fee"]).tolist() == [
        1,
        0,
        1,
        0,
    ]


@given(pairs)
def test_agreement_is_symmetric_and_a_fraction(given_pairs):
    first, second = [a for a, _ in given_pairs], [b for _, b in given_pairs]
    for score in (
        metrics.rouge_l,
        metrics.em,
        metrics.rs,
        metrics.token_f1,
        lambda a, b: metrics.bs(a, b, encode=encode),
    ):
        scores = score(first, second)
        assert scores.shape == (len(given_pairs),)
        assert scores.tolist() == score(second, first).tolist()
        assert ((scores >= 0) & (scores <= 1)).all()


@given(texts)
def test_an_answer_agrees_with_itself(text):
    assert metrics.em([text], [text]) == 1
    expected = 1.0 if metrics.tokenize(text) else 0.0
    assert metrics.rouge_l([text], [text]) == metrics.rs([text], [text]) == expected


def test_em_compares_raw_strings():
    assert metrics.em(["Yes", "yes ", "", "é"], ["yes", "yes", "", "e\u0301"]).tolist() == [
        0,
        0,
        1,
        0,
    ]


def test_rs_is_strictly_above_the_threshold():
    first, second = ["a b c d", "a b"], ["a b x y", "a b"]  # F1 .5 and 1
    assert metrics.rs(first, second, T=0.5).tolist() == [0, 1]
    assert metrics.rs(first, second, T=0.49).tolist() == [1, 1]


def test_bs_encodes_each_string_once_and_clips():
    batches = []

    def opposed(batch):
        batches.append(list(batch))
        vectors = {"a": [3, 4], "b": [-3, -4], "c": [0, 0], "d": [4, 3]}
        return np.array([vectors[t] for t in batch], dtype=np.float32)

    scores = metrics.bs(list("aaaad"), list("abcda"), encode=opposed)
    np.testing.assert_allclose(scores, [1, 0, 0, 0.96, 0.96], atol=1e-12)
    assert batches == [["a", "b", "c", "d"]]


def test_bs_is_the_cosine_of_numpy():
    random = np.random.default_rng(2)
    vectors = {text: random.normal(size=5) for text in "abcdef"}
    scores = metrics.bs("abc", "def", encode=lambda batch: np.array([vectors[t] for t in batch]))
    for score, a, b in zip(scores, "abc", "def", strict=True):
        x, y = vectors[a], vectors[b]
        cosine = np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y)
        assert score == pytest.approx(max(cosine, 0.0), abs=1e-12)


@pytest.mark.parametrize(
    "vectors", [np.zeros((1, 3)), np.zeros(2), np.full((2, 3), np.nan)], ids=["few", "flat", "nan"]
)
def test_bs_refuses_what_is_not_a_vector_a_text(vectors):
    with pytest.raises(RunError, match="2 texts"):
        metrics.bs(["a"], ["b"], encode=lambda batch: vectors)


def test_no_pairs_have_no_scores():
    for score in (metrics.rouge_l, metrics.em, metrics.rs, metrics.token_f1):
        assert score([], []).shape == (0,)
    assert metrics.bs([], [], encode=encode).shape == (0,)
    assert metrics.bleu([], []).shape == (0, metrics.BLEU_STATISTICS)


def test_unequal_sides_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        metrics.em(["a"], [])


@given(pairs)
def test_bleu_statistics_are_sacrebleus(given_pairs):
    answers, references = [a for a, _ in given_pairs], [b for _, b in given_pairs]
    rows = metrics.bleu(answers, references)
    for row, answer, reference in zip(rows, answers, references, strict=True):
        score = sacrebleu.BLEU().corpus_score([answer], [[reference]])
        assert row.tolist() == [score.sys_len, score.ref_len, *score.counts, *score.totals]


@given(pairs)
def test_bleu_statistics_do_not_depend_on_the_blocks(given_pairs):
    answers, references = [a for a, _ in given_pairs], [b for _, b in given_pairs]
    expected = metrics.bleu(answers, references).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bleu_module, "_BLOCK", 5)
        assert metrics.bleu(answers, references).tolist() == expected


marks = st.text("ab 01.,-&;'\n\t<>skiped{}[]\\^`~|!#$%()*+:=?@/\x1c\u2028é\u2019", max_size=30)
pieces = st.sampled_from(["&quot;", "&amp;lt;", "<skipped>", "-\n", "1,5", "...", "3-4", "$"])


@settings(max_examples=500)
@given(st.lists(marks | pieces, max_size=4).map("".join))
def test_bleu_tokens_are_those_of_sacrebleus_13a(text):
    assert bleu_module._tokens(text) == Tokenizer13a()(text.rstrip()).split()


@given(pairs)
def test_corpus_bleu_is_sacrebleus(given_pairs):
    answers, references = [a for a, _ in given_pairs], [b for _, b in given_pairs]
    expected = sacrebleu.corpus_bleu(answers, [references]).score / 100
    ours = metrics.corpus_bleu(metrics.bleu(answers, references).sum(axis=0))
    assert ours == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(0, 3), min_size=10, max_size=10), st.integers(1, 9))
def test_corpus_bleu_smooths_as_sacrebleu_does(matches_and_rest, length):
    correct, rest = matches_and_rest[:4], matches_and_rest[4:8]
    total = [c + r for c, r in zip(correct, rest, strict=True)]
    expected = sacrebleu.BLEU.compute_bleu(
        list(correct), list(total), length, 5, smooth_method="exp"
    ).score
    ours = metrics.corpus_bleu(np.array([length, 5, *correct, *total], dtype=float))
    assert ours * 100 == pytest.approx(min(expected, 100), abs=1e-9)


def test_corpus_bleu_maps_over_leading_axes():
    sums = metrics.bleu(["pay the refund within 30 days", "no"], ["pay refund within 30 days", "x"])
    stacked = metrics.corpus_bleu(np.stack([sums, sums * 2]))
    assert stacked.shape == (2, 2)
    assert stacked[0].tolist() == [float(metrics.corpus_bleu(row)) for row in sums]


def test_signatures_name_the_implementation():
    found = metrics.signatures(0.6, "E")
    assert found["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["rs"] == "ROUGE-L F1 > 0.6"
    assert found["bs"] == "cosine of E, clipped to [0, 1]"
    assert metrics.signatures(0.6, None)["bs"].startswith("unscored")


def test_metrics_are_components():
    assert set(components("metrics")) >= {
        *("rouge_l", "bleu", "em", "rs", "bs", "token_f1", "bertscore", "containment")
    }
    rs = component("metrics", "rs", "evaluate")
    assert check_options(rs, {"T": 0.5}, "evaluate") == {"T": 0.5}
    assert rs.summary.startswith("1 where ROUGE-L F1")

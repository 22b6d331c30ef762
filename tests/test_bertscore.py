import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import InputError, RunError
from accord.evaluate.metrics import bertscore
from accord.models.bertscore import TokenEmbedder

FIRST = ["Refunds take five days.", "The card is valid.", "yes", " Press the button. ", "x " * 700]
SECOND = ["It takes 5 days.", "The card is not valid.", "no way", "press it and wait", "y " * 300]
texts = st.text("ab ", max_size=6)


def embed(batch):
    """A vector for each character and a mark at each end: a stand-in for an encoder."""
    codes = {"<": [1, 1, 0], ">": [0, 1, 1], "a": [3, 0, 1], "b": [-1, 2, 0], " ": [0, 0, -1]}
    return [np.array([codes[c] for c in f"<{text}>"], dtype=np.float32) for text in batch]


def plainly(a, b):
    """Zhang et al. 2020, section 3, token by token."""

    def cosine(x, y):
        return float(np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y))

    (x, y) = embed([a, b])
    precision = np.mean([max(cosine(t, u) for u in y) for t in x[1:-1]])
    recall = np.mean([max(cosine(t, u) for t in x) for u in y[1:-1]])
    return 0.0 if min(precision, recall) <= 0 else 2 * precision * recall / (precision + recall)


@given(st.lists(st.tuples(texts, texts), max_size=5))
def test_it_is_greedy_matching_and_unscored_without_tokens(pairs):
    scores = bertscore([a for a, _ in pairs], [b for _, b in pairs], embed_tokens=embed)
    expected = [plainly(a, b) if a and b else np.nan for a, b in pairs]
    np.testing.assert_allclose(scores, expected, atol=1e-6)


@given(texts, texts)
def test_it_is_symmetric_and_equal_texts_score_one(a, b):
    there, back = (
        bertscore([a, a], [b, a], embed_tokens=embed),
        bertscore([b], [a], embed_tokens=embed),
    )
    np.testing.assert_allclose(there[0], back[0], atol=1e-12)
    np.testing.assert_allclose(there[1], 1.0 if a else np.nan, atol=1e-12)


def test_texts_are_embedded_in_blocks_of_pairs(monkeypatch):
    batches = []
    monkeypatch.setattr("accord.evaluate.metrics._BLOCK", 2)
    bertscore(
        list("aab"), list("bab"), embed_tokens=lambda batch: batches.append(batch) or embed(batch)
    )
    assert batches == [["a", "b"], ["b"]]


@pytest.mark.parametrize(
    "arrays", [[], [np.zeros(3)] * 2, [np.zeros((1, 3))] * 2, [np.full((3, 3), np.nan)] * 2]
)
def test_it_refuses_what_are_no_token_vectors(arrays):
    with pytest.raises(RunError, match="encoder returned"):
        bertscore(["a"], ["b"], embed_tokens=lambda batch: arrays)


@pytest.mark.parametrize("layer", [None, 3, 0])
def test_it_is_that_of_the_bert_score_package(encoder_folder, layer):
    from bert_score import BERTScorer  # it loads pandas and matplotlib

    scorer = BERTScorer(
        model_type=str(encoder_folder), num_layers=6 if layer is None else layer, device="cpu"
    )
    expected = scorer.score(FIRST, SECOND)[2].numpy()
    scores = bertscore(FIRST, SECOND, embed_tokens=TokenEmbedder(encoder_folder, layer))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_vector_does_not_depend_on_the_batch(encoder_folder):
    embedder = TokenEmbedder(encoder_folder)
    together = embedder(FIRST)
    for text, vectors in zip(FIRST, together, strict=True):
        (alone,) = embedder([text])
        np.testing.assert_allclose(vectors, alone, atol=1e-5)
    assert [len(vectors) for vectors in together] == [8, 7, 3, 6, 512]
    assert embedder([]) == []


def test_layers_and_folders_that_are_not_there(encoder_folder, tmp_path):
    with pytest.raises(InputError, match=r"bertscore.layer: found 7; .* the layers 0 to 6"):
        TokenEmbedder(encoder_folder, 7)(["a"])
    with pytest.raises(InputError, match="cannot be loaded"):
        TokenEmbedder(tmp_path)(["a"])


def test_a_tokenizer_without_marks_is_refused(tiny_llama):
    with pytest.raises(InputError, match="no mark at each end"):
        TokenEmbedder(tiny_llama)(["a"])

"""Metrics of accuracy and agreement (paper, section 4.2).

A metric scores N pairs of texts and aggregates nothing: it gives one score a pair, shape (N,), or
for BLEU, which is no mean, one row of sufficient statistics a pair, shape (N, 10), that are summed
before `corpus_bleu` turns them into a number. So a bootstrap can sum them anew.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from accord.errors import RunError
from accord.registry import register

Floats = NDArray[np.float64]
Encode = Callable[[Sequence[str]], NDArray[Any]]

ORDER = 4  # BLEU's longest n-gram
BLEU_STATISTICS = 2 + 2 * ORDER  # answer length, reference length, matches, n-grams
_TOKEN = re.compile(r"[a-z0-9]+")


def tokenize(text: str) -> list[str]:
    """Lower-cased runs of [a-z0-9], as the rouge-score package splits them without its stemmer."""
    return _TOKEN.findall(text.lower())


def lcs_f1(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two token lists (Lin 2004, section 3.1, beta = 1).

    0 where either list is empty. The operations and their order are those of the rouge-score
    package, so the result is the same to the last bit.
    """
    common = LCSseq.similarity(candidate, reference) if candidate and reference else 0
    if common == 0:
        return 0.0
    precision, recall = common / len(candidate), common / len(reference)
    return 2 * precision * recall / (precision + recall)


@register("metrics", "rouge_l")
def rouge_l(first: Sequence[str], second: Sequence[str]) -> Floats:
    """ROUGE-L F1 of each pair of texts, shape (N,), in [0, 1]; symmetric (Lin 2004)."""
    tokens = {text: tokenize(text) for text in {*first, *second}}
    return np.array(
        [lcs_f1(tokens[a], tokens[b]) for a, b in zip(first, second, strict=True)], dtype=np.float64
    )


@register("metrics", "rs")
def rs(first: Sequence[str], second: Sequence[str], *, T: float = 0.7) -> Floats:
    """1 where ROUGE-L F1 is strictly above T, else 0, shape (N,) (paper, section 4.2)."""
    return above(rouge_l(first, second), T)


def above(scores: Floats, T: float) -> Floats:
    """1 where a score is strictly above T, else 0: RS from ROUGE-L scores that are known."""
    return (scores > T).astype(np.float64)


@register("metrics", "em")
def em(first: Sequence[str], second: Sequence[str]) -> Floats:
    """1 where the raw strings are equal, else 0, shape (N,) (paper, section 4.2)."""
    return np.array([a == b for a, b in zip(first, second, strict=True)], dtype=np.float64)


@register("metrics", "bs")
def bs(first: Sequence[str], second: Sequence[str], *, encode: Encode) -> Floats:
    """Cosine of a sentence encoder's vectors, clipped to [0, 1], shape (N,).

    Each distinct string is encoded once, in sorted order, so that the score of a pair does not
    depend on its place in a batch. A zero vector has cosine 0 with everything.
    Raises RunError if the encoder does not return one finite vector a string.
    """
    texts = sorted({*first, *second})
    if not texts:
        return np.zeros(0)
    units = _unit(encode(texts), len(texts))
    row = {text: index for index, text in enumerate(texts)}
    a, b = (units[[row[text] for text in side]] for side in (first, second))
    cosines: Floats = np.einsum("nd,nd->n", a, b)
    return cosines.clip(0.0, 1.0)


def _unit(vectors: NDArray[Any], count: int) -> Floats:
    """Rows of length 1 in float64: in float32 equal texts would miss a cosine of 1 by 1e-7."""
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != count or not np.isfinite(rows).all():
        raise RunError(
            f"the sentence encoder returned an array of shape {rows.shape} for {count} texts; "
            "one finite vector for each text is wanted"
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Floats = rows / np.where(lengths > 0, lengths, 1.0)
    return units


@register("metrics", "bleu")
def bleu(answers: Sequence[str], references: Sequence[str]) -> Floats:
    """Sufficient statistics of BLEU (Papineni et al. 2002) by sacrebleu, shape (N, 10).

    Columns: length of the answer, length of the reference, matching 1- to 4-grams, 1- to 4-grams
    of the answer. `corpus_bleu` of their sum is corpus BLEU.
    """
    rows = np.zeros((len(answers), BLEU_STATISTICS))
    for row, answer, reference in zip(rows, answers, references, strict=True):
        score = _sacrebleu().corpus_score([answer], [[reference]])
        row[:] = [score.sys_len, score.ref_len, *score.counts, *score.totals]
    return rows


def corpus_bleu(sums: Floats) -> Floats:
    """Corpus BLEU as a fraction, from summed statistics of shape (..., 10); shape (...).

    Brevity penalty and geometric mean of Papineni et al. 2002, with sacrebleu's default `exp`
    smoothing: the i-th order without a match counts 1 / 2^i of a match (Chen & Cherry 2014,
    method 3). 0 where nothing matches, or where no answer has four tokens.
    """
    sums = np.asarray(sums, dtype=np.float64)
    length, wanted = sums[..., 0], sums[..., 1]
    matches, ngrams = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
    smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=-1))
    precisions = smoothed / np.maximum(ngrams, 1)
    brevity = np.exp(np.minimum(0.0, 1 - wanted / np.maximum(length, 1)))
    scores = brevity * np.exp(np.log(precisions).mean(axis=-1))
    defined = matches.any(axis=-1) & ngrams.all(axis=-1)
    # The exponential of a mean of logarithms may pass 1 by a last bit.
    fractions: Floats = np.where(defined, np.minimum(scores, 1.0), 0.0)
    return fractions


@cache
def _sacrebleu() -> Any:
    from sacrebleu.metrics import BLEU  # slow to import: only where BLEU is wanted

    return BLEU()


def bleu_signature() -> str:
    """sacrebleu's own signature (Post 2018), without which a BLEU score means little."""
    _sacrebleu().corpus_score([""], [[""]])  # the number of references is known only after a score
    return str(_sacrebleu().get_signature())


def signatures(T: float, encoder: str | None) -> dict[str, Any]:
    """What each number is, exactly enough to make it again; `encoder` None where `bs` is null."""
    return {
        "rouge_l": "ROUGE-L|measure:f1|tok:rouge-score|case:lower|stem:no",
        "bleu": bleu_signature(),
        "em": "raw strings equal",
        "rs": f"ROUGE-L F1 > {T}",
        "rs_area": "area under RS(T), T in [0, 1]: the mean ROUGE-L F1 of the pairs",
        "bs": f"cosine of {encoder}, clipped to [0, 1]" if encoder else "unscored: no encoder",
        "T": T,
        "encoder": encoder,
    }

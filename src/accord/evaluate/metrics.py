"""Metrics of accuracy and agreement.

A metric scores N pairs of texts and aggregates nothing: it gives one score a pair, shape (N,), in
[0, 1], NaN where a pair cannot be scored; or for BLEU, which is no mean, one row of sufficient
statistics a pair, shape (N, 10), that are summed before `corpus_bleu` turns them into a number. So
a bootstrap can sum them anew.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from accord.errors import RunError
from accord.evaluate.bleu import (
    BLEU_STATISTICS,
    Floats,
    bleu,
    bleu_signature,
    corpus_bleu,
)
from accord.evaluate.coding import Coder
from accord.registry import register

__all__ = [
    "BLEU_STATISTICS",
    "EmbedTokens",
    "Encode",
    "Floats",
    "above",
    "bertscore",
    "bleu",
    "bleu_signature",
    "bs",
    "corpus_bleu",
    "em",
    "lcs_f1",
    "rouge_l",
    "rs",
    "signatures",
    "token_f1",
    "tokenize",
]

Encode = Callable[[Sequence[str]], NDArray[Any]]
EmbedTokens = Callable[[Sequence[str]], Sequence[NDArray[Any]]]

_KEPT = string.ascii_lowercase + string.digits
_BLANKED = bytes(code if chr(code) in _KEPT else ord(" ") for code in range(256))
_SQUAD_ARTICLES = ("a", "an", "the")
_SQUAD_ARTICLE = re.compile(r"\b(a|an|the)\b")
_SQUAD_DROPPED = str.maketrans("", "", string.punctuation)
_BLOCK = 512  # pairs whose token vectors are in memory at a time
_CACHED = 256  # texts: pairs come sorted, so that a text is soon met again or not at all


def tokenize(text: str) -> list[str]:
    """Lower-cased runs of [a-z0-9], as the rouge-score package splits them without its stemmer."""
    return [token.decode("ascii") for token in _letters(text)]


def _letters(text: str) -> list[bytes]:
    """The tokens as bytes, which are made faster."""
    return text.lower().encode("ascii", "replace").translate(_BLANKED).split()


def lcs_f1(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two token lists (Lin 2004, section 3.1, beta = 1).

    0 where either list is empty. The operations and their order are those of the rouge-score
    package, so the result is the same to the last bit.
    """
    common = LCSseq.similarity(candidate, reference) if candidate and reference else 0
    return float(_f1([(common, len(candidate), len(reference))])[0])


def _f1(counts: Iterable[tuple[int, int, int]]) -> Floats:
    """F1 (N,) from rows (N, 3) of common tokens and those of either side; 0 without common ones."""
    flat = np.fromiter(chain.from_iterable(counts), dtype=np.float64)
    common, candidate, reference = flat.reshape(-1, 3).T
    # Where nothing is common any divisor but 0 will do.
    precision, recall = common / np.maximum(candidate, 1), common / np.maximum(reference, 1)
    scores: Floats = 2 * precision * recall / np.where(common > 0, precision + recall, 1.0)
    return scores


@register("metrics", "rouge_l")
def rouge_l(first: Sequence[str], second: Sequence[str]) -> Floats:
    """ROUGE-L F1 of each pair of texts, shape (N,), in [0, 1]; symmetric (Lin 2004).

    Bit-identical to the rouge-score package with use_stemmer=False.
    """
    return _f1(_lcs_counts(first, second))


def _lcs_counts(first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Tokens of the longest common subsequence, of the first and of the second, for each pair."""
    coder = Coder(_letters)
    for a, b in zip(first, second, strict=True):
        x, y = coder.pair(a, b)
        yield (LCSseq.similarity(x, y) if x and y else 0), len(x), len(y)


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


@register("metrics", "token_f1")
def token_f1(first: Sequence[str], second: Sequence[str]) -> Floats:
    """F1 of the bags of words of each pair, shape (N,), in [0, 1] (SQuAD, Rajpurkar et al. 2016).

    Lower case, without ASCII punctuation and the articles a, an, the, as in SQuAD's official
    script, version 2.0: where a side has no words left, 1 if the other has none either, else 0.
    """
    words = lru_cache(_CACHED)(_squad_words)
    bags = ((words(a), words(b)) for a, b in zip(first, second, strict=True))
    return _f1(
        (_overlap(a, b), a.total(), b.total()) if a and b else (int(not a and not b), 1, 1)
        for a, b in bags
    )


def _overlap(a: Counter[str], b: Counter[str]) -> int:
    """Size of the intersection of two bags; many times faster than `(a & b).total()`."""
    common = a.keys() & b.keys()
    return sum(map(min, map(a.__getitem__, common), map(b.__getitem__, common)))


def _squad_words(text: str) -> Counter[str]:
    """The bag of words of SQuAD's official script."""
    kept = text.lower().translate(_SQUAD_DROPPED)
    words = kept.split()
    if "".join(words).isalnum():  # then each word ends at a blank, and no slow pattern is needed
        bag = Counter(words)
        for article in _SQUAD_ARTICLES:
            bag.pop(article, None)
        return bag
    return Counter(_SQUAD_ARTICLE.sub(" ", kept).split())


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
            f"the encoder returned an array of shape {rows.shape} for {count} texts or tokens; "
            "one finite vector for each is wanted"
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Floats = rows / np.where(lengths > 0, lengths, 1.0)
    return units


@register("metrics", "bertscore")
def bertscore(first: Sequence[str], second: Sequence[str], *, embed_tokens: EmbedTokens) -> Floats:
    """BERTScore F1, no idf, no rescaling, clipped to [0, 1], shape (N,) (Zhang et al. 2020).

    `embed_tokens` maps texts to one array (tokens, D) each, of which the first and the last row
    are the marks around the text ([CLS] and [SEP]). As in the bert-score package a token may be
    matched with a mark, but no mark is counted. NaN where either text has no tokens. Texts are
    embedded in blocks of pairs, so sorted pairs are scored fastest.
    Raises RunError if `embed_tokens` does not return such arrays.
    """
    scores = np.full(len(first), np.nan)
    pairs = list(zip(first, second, strict=True))
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        texts = sorted({text for pair in block for text in pair})
        units = dict(zip(texts, _unit_tokens(embed_tokens(texts), len(texts)), strict=True))
        scores[start : start + _BLOCK] = [_greedy_f1(units[a], units[b]) for a, b in block]
    return scores


def _unit_tokens(arrays: Sequence[NDArray[Any]], count: int) -> list[Floats]:
    """Rows of length 1 for each text."""
    if len(arrays) != count or any(a.ndim != 2 or len(a) < 2 for a in arrays):
        raise RunError(
            f"the token encoder returned {len(arrays)} arrays for {count} texts, or one of a wrong "
            "shape; for each text an array (tokens, D) with a mark at each end is wanted"
        )
    return [_unit(array, len(array)) for array in arrays]


def _greedy_f1(a: Floats, b: Floats) -> float:
    """F1 of each token's best match on the other side; NaN where a side has marks alone."""
    if len(a) == 2 or len(b) == 2:
        return float("nan")
    cosines = a @ b.T
    precision = cosines[1:-1].max(axis=1).mean()
    recall = cosines[:, 1:-1].max(axis=0).mean()
    if precision <= 0 or recall <= 0:
        return 0.0
    return min(float(2 * precision * recall / (precision + recall)), 1.0)


def signatures(T: float, encoder: str | None) -> dict[str, Any]:
    """What each number is, exactly enough to make it again; `encoder` None where `bs` is null."""
    return {
        "rouge_l": "ROUGE-L|measure:f1|tok:rouge-score|case:lower|stem:no",
        "bleu": bleu_signature(),
        "em": "raw strings equal",
        "rs": f"ROUGE-L F1 > {T}",
        "containment": "overlap coefficient of content words|words of the question masked|"
        "stem: plural (Harman 1991)",
        "token_f1": "SQuAD 2.0 token F1|case:lower|punct:no|articles:no",
        "rs_area": "area under RS(T), T in [0, 1]: the mean ROUGE-L F1 of the pairs",
        "bs": f"cosine of {encoder}, clipped to [0, 1]" if encoder else "unscored: no encoder",
        "T": T,
        "encoder": encoder,
    }

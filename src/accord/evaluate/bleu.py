"""BLEU: sufficient statistics of each pair, and the corpus score of their sums.

The definition and the signature are sacrebleu's. Its tokens and counts are made anew here, equal to
the unit, because its own regular expressions and counters take several times as long.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.evaluate.coding import Coder
from accord.registry import register

Floats = NDArray[np.float64]

ORDER = 4  # BLEU's longest n-gram
BLEU_STATISTICS = 2 + 2 * ORDER  # answer length, reference length, matches, n-grams
_BLOCK = 2**16  # tokens whose n-grams are counted at a time
_CHARACTER_BITS = 21  # of a Unicode character

# The 13a tokenizer of mteval-v13a.pl: all ASCII punctuation but ' , - . stands alone, comma and
# full stop unless between digits, and a hyphen after a digit.
_ALONE = '{|}~[\\]^_`!"#$%&()*+:;<=>?@/'
_BETWEEN_DIGITS = (
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
)
# Neither before a blank nor between digits, where the two patterns do what is simple.
_WITHIN = re.compile(r"[.,](?! |(?<=[0-9].)[0-9])")
_AFTER_DIGIT = re.compile(r"([0-9])(-)")
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


@register("metrics", "bleu")
def bleu(answers: Sequence[str], references: Sequence[str]) -> Floats:
    """Sufficient statistics of BLEU (Papineni et al. 2002), sacrebleu's to the unit, shape (N, 10).

    Columns: length of the answer, length of the reference, matching 1- to 4-grams, 1- to 4-grams
    of the answer. `corpus_bleu` of their sum is corpus BLEU.
    """
    rows = np.zeros((len(answers), BLEU_STATISTICS))
    start = 0
    for block in _blocks(answers, references):
        rows[start : start + len(block)] = _statistics(block)
        start += len(block)
    return rows


def _blocks(answers: Sequence[str], references: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """Pairs of texts of one character a token, so many that their tokens fill a block."""
    coder = Coder(_tokens)
    block, size = [], 0
    for answer, reference in zip(answers, references, strict=True):
        block.append(coder.pair(answer, reference))
        size += len(block[-1][0]) + len(block[-1][1])
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _tokens(text: str) -> list[str]:
    """The 13a tokens of a text, as sacrebleu makes them."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in line:
        for entity, character in _ENTITIES:
            line = line.replace(entity, character)
    line = f" {line} "
    for character in _ALONE:
        if character in line:
            line = line.replace(character, f" {character} ")
    if _WITHIN.search(line):
        for pattern, spaced in _BETWEEN_DIGITS:
            line = pattern.sub(spaced, line)
    else:  # the same, without the slow patterns
        line = line.replace(". ", " . ").replace(", ", " , ")
    if "-" in line:
        line = _AFTER_DIGIT.sub(r"\1 \2 ", line)
    return line.split()


def _statistics(pairs: Sequence[tuple[str, str]]) -> Floats:
    """The rows of `bleu` for P pairs: all n-grams of a length are ranked and counted at once.

    Pair and n-gram together have a rank, so that n-grams of one pair meet only one another.
    """
    lengths = np.array([(len(a), len(b)) for a, b in pairs], dtype=np.int64)
    text = np.repeat(np.arange(2 * len(pairs)), lengths.ravel())  # answers even, references odd
    joined = "".join(chain.from_iterable(pairs)).encode("utf-32-le", "surrogatepass")
    tokens = np.frombuffer(joined, dtype="<u4").astype(np.int64)
    first = _ranks(tokens + (text // 2 << _CHARACTER_BITS))
    matches = np.zeros((len(pairs), ORDER))
    starts, ranks = np.arange(len(text)), first
    for n in range(ORDER):
        if n:  # one token more, where the text goes on
            go_on = starts + n < len(text)
            go_on[go_on] = text[starts[go_on] + n] == text[starts[go_on]]
            starts, ranks = starts[go_on], ranks[go_on]
            ranks = _ranks(ranks * len(text) + first[starts + n])
        both = _in_both(ranks, text[starts] % 2)
        owner = np.zeros(len(both), dtype=np.int64)
        owner[ranks] = text[starts] // 2
        matches[:, n] = np.bincount(owner, weights=both, minlength=len(pairs))
        matched = both[ranks] > 0  # a longer n-gram matches only where a shorter one does
        starts, ranks = starts[matched], ranks[matched]
    ngrams = np.maximum(lengths[:, :1] - np.arange(ORDER), 0)
    return np.hstack([lengths, matches, ngrams])


def _ranks(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each key among the distinct ones, shape (N,)."""
    ranks: NDArray[np.int64] = np.unique(keys, return_inverse=True)[1].reshape(-1)
    return ranks


def _in_both(ranks: NDArray[np.int64], side: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each rank is in both sides, 0 and 1: the smaller count."""
    size = int(ranks.max(initial=-1)) + 1
    counts = [np.bincount(ranks[side == which], minlength=size) for which in (0, 1)]
    return np.minimum(*counts)


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

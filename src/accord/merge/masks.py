"""DARE's Bernoulli masks from a counter: element i of a tensor always draws the same number.

Unusual: there is no generator state. Word j is output j of splitmix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014), seeded by a hash of (seed, model,
tensor); each word gives four 16-bit draws. So a mask depends neither on threads nor on chunks
nor on shards.
"""

import json
import sys
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from accord.errors import InputError

LEVELS = 1 << 16  # of a draw; all of them are kept at density 1
_BLOCK = 1 << 13  # words worked on at a time: 64 KiB, and as much scratch, stay in the cache

_GAMMA = 0x9E3779B97F4A7C15
_STEPS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST = np.uint64(31)


def mask_key(seed: int, model: str, tensor: str) -> int:
    """A 64-bit key of the three; JSON keeps them apart whatever characters they hold."""
    text = json.dumps([seed, model, tensor]).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def threshold(density: float) -> int:
    """How many of the 65,536 levels are kept: at least one, and all only at density 1.

    Raises InputError for a density outside (0, 1].
    """
    if not 0 < density <= 1:
        raise InputError(f"density: found {density}; a number in (0, 1] is wanted")
    return LEVELS if density == 1 else min(max(round(density * LEVELS), 1), LEVELS - 1)


def kept_share(density: float) -> float:
    """The share that is kept in expectation, exactly: DARE rescales by its inverse."""
    return threshold(density) / LEVELS


def draws(key: int, start: int, count: int) -> NDArray[np.uint16]:
    """Uniform 16-bit draws of the elements [start, start + count); [count], uint16."""
    first, skip = divmod(start, 4)
    words = np.empty((skip + count + 3) // 4, np.uint64)
    scratch = np.empty(_BLOCK, np.uint64)
    for at in range(0, len(words), _BLOCK):
        _splitmix64(words[at : at + _BLOCK], scratch, key, first + at)
    if sys.byteorder == "big":
        words.byteswap(inplace=True)
    return words.view("<u2")[skip : skip + count]


def _splitmix64(
    words: NDArray[np.uint64], scratch: NDArray[np.uint64], key: int, first: int
) -> None:
    """Fill `words` with outputs first, first + 1, ... of splitmix64 seeded with `key`."""
    scratch = scratch[: len(words)]
    words[:] = np.arange(len(words), dtype=np.uint64)
    words *= np.uint64(_GAMMA)
    words += np.uint64((key + (first + 1) * _GAMMA) % 2**64)
    for shift, factor in _STEPS:
        np.right_shift(words, shift, out=scratch)
        words ^= scratch
        words *= factor
    np.right_shift(words, _LAST, out=scratch)
    words ^= scratch

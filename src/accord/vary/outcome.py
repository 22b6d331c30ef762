"""What a variation component yields for one question: rewordings, or a skip with its reason.

A variation component is a function

    @register("variations", "how_to_do")
    def how_to_do(questions: Sequence[Question], *, seed: int) -> Iterator[list[Rewording] | Skip]

that yields one outcome for each question, in order, the same ones for the same seed. Keyword-only
parameters with a default are the options that a config may give.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Rewording(NamedTuple):
    """A new wording and where it came from: the operator and the one span that it changed.

    `before` is what the source has from character `start` on, `after` what stands there now:
    `query[:start] + before + query[start + len(after):]` is the source.
    """

    query: str
    operator: str
    before: str = ""
    after: str = ""
    start: int = 0


class Rejected(NamedTuple):
    """A wording that was made and turned down: it goes to the skipped file with its text."""

    query: str
    reason: str


class Skip(NamedTuple):
    """No wording was made, and why: a lower-case phrase such as `no how-to frame`."""

    reason: str


Outcome = list[Rewording | Rejected] | list[Rewording] | Skip
Encode = Callable[[Sequence[str]], NDArray[Any]]  # texts (N) to vectors (N, D)


def changed(operator: str, source: str, new: str) -> Rewording:
    """The rewording of `source` as `new`, its span the smallest one that ends between words."""
    start = _shared(source, new)
    end = _shared(source[start:][::-1], new[start:][::-1])
    while start and source[start - 1].isalnum() and _splits(source, new, start):
        start -= 1
    while end and source[-end].isalnum() and _splits(source[::-1], new[::-1], end):
        end -= 1
    before, after = source[start : len(source) - end], new[start : len(new) - end]
    return Rewording(new, operator, before, after, start)


def undone(rewording: Rewording) -> str:
    """The source of a rewording, from its provenance."""
    query, start = rewording.query, rewording.start
    return query[:start] + rewording.before + query[start + len(rewording.after) :]


def _splits(one: str, other: str, at: int) -> bool:
    """Whether the place is inside a word of either text."""
    return one[at : at + 1].isalnum() or other[at : at + 1].isalnum()


def _shared(one: str, other: str) -> int:
    """How many characters two texts share at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def keyed_random(seed: int, *key: str) -> random.Random:
    """A generator that depends on the seed and the key only, not on what was drawn before."""
    digest = hashlib.sha256("\x1f".join([str(seed), *key]).encode("utf-8", "replace")).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))

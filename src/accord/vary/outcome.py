"""What a variation component yields for one question: rewordings, or a skip with its reason.

A variation component is a function

    @register("variations", "how_to_do")
    def how_to_do(questions: Sequence[Question], *, seed: int) -> Iterator[list[Rewording] | Skip]

that yields one outcome for each question, in order, the same ones for the same seed. Keyword-only
parameters with a default are the options that a config may give.
"""

import hashlib
import random
from typing import NamedTuple


class Rewording(NamedTuple):
    """A new wording and where it came from: the operator and the span it changed."""

    query: str
    operator: str
    before: str = ""
    after: str = ""


class Skip(NamedTuple):
    """No wording was made, and why: a lower-case phrase such as `no how-to frame`."""

    reason: str


def keyed_random(seed: int, *key: str) -> random.Random:
    """A generator that depends on the seed and the key only, not on what was drawn before."""
    digest = hashlib.sha256("\x1f".join([str(seed), *key]).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))

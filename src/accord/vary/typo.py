"""A slip of the finger: one letter becomes a neighbour of it on the keyboard (QWERTY).

The slip stays inside one plain word. Names, numbers, negations, quotes and code are spared, and so
is a slip that would give another English word ("form" for "from").
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random

from accord.records import Question
from accord.registry import register
from accord.vary.gate import unusable
from accord.vary.guards import Spans, is_english, words
from accord.vary.outcome import Rewording, Skip, changed, keyed_random

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# A word of five letters or more that no hyphen, slash, dot or sign ties to a code or a compound; a
# slip in a shorter one often hides which word it was.
_WORD = re.compile(
    r"(?<![\w/\\@#_=$%&*+<>~|:.'\u2019-])[a-z]{5,}(?![\w/\\@#_=$%&*+<>~|'\u2019-]|[.:]\S)"
)
# Words that turn a query around or count: a reader must not stumble over them.
_SPARED = words(
    "never without cannot neither nothing nobody nowhere except unless excluding other than before "
    "after under above below between until since during first second third fourth fifth every "
    "three seven eight eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion double "
    "triple twice monday tuesday wednesday thursday friday saturday sunday january february march "
    "april june july august september october november december"
)


@register("variations", "typo")
def typo(questions: Sequence[Question], *, seed: int) -> Iterator[list[Rewording] | Skip]:
    """One slip to a neighbouring key in one plain word; never in names, numbers, quotes or code."""
    for question in questions:
        query = question.query
        if reason := unusable(query):
            yield reason
            continue
        new = _slip(query, keyed_random(seed, question.id, "typo"))
        none = Skip("no word that can take a typo")
        yield [changed("typo", query, new)] if new else none


def _slip(query: str, draw: Random) -> str | None:
    protected = Spans(query)
    places = [
        at
        for word in _WORD.finditer(query)
        if word[0] not in _SPARED and not protected.touch(*word.span())
        for at in range(word.start() + 1, word.end() - 1)
    ]
    draw.shuffle(places)
    for at in places:
        new = query[:at] + draw.choice(_neighbours(query[at])) + query[at + 1 :]
        # A word that the table does not know may be a name or a code.
        if is_english(_word_around(query, at)) and not is_english(_word_around(new, at)):
            return new
    return None


def _word_around(text: str, at: int) -> str:
    before = re.search(r"[a-z]*$", text[max(0, at - 40) : at])
    after = re.match(r"[a-z]*", text[at:])
    return (before[0] if before else "") + (after[0] if after else "")


@lru_cache(maxsize=26)
def _neighbours(letter: str) -> str:
    """The keys around a letter: beside it, and the two that it touches above and below."""
    row = next(number for number, keys in enumerate(_ROWS) if letter in keys)
    column = _ROWS[row].index(letter)
    near = [(row, column - 1), (row, column + 1)]
    near += [(row - 1, column), (row - 1, column + 1), (row + 1, column - 1), (row + 1, column)]
    inside = [(r, c) for r, c in near if 0 <= r < len(_ROWS) and 0 <= c < len(_ROWS[r])]
    return "".join(_ROWS[r][c] for r, c in inside)

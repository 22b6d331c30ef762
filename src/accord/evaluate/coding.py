"""Texts as strings of one character a token, which are compared many times faster than lists."""

from collections.abc import Callable, Iterable
from typing import Any

from accord.errors import InputError

_RENEWED = 2**16  # distinct tokens after which characters are given out anew
_CHARACTERS = 0x110000  # all that there are


class Coder:
    """Codes the texts of a pair with one alphabet; a text met again is not split again.

    `split` gives the tokens of a text. The memory is that of the coded texts, 1 to 4 bytes a token.
    """

    def __init__(self, split: Callable[[str], Iterable[Any]]) -> None:
        self._split = split
        self._alphabet = _Alphabet()
        self._coded: dict[str, str] = {}

    def pair(self, a: str, b: str) -> tuple[str, str]:
        """Both texts; characters mean the same token in both, not in another pair.

        Raises InputError for two texts with more than a million distinct tokens.
        """
        if len(self._alphabet) > _RENEWED:
            self._alphabet.clear()
            self._coded.clear()
        return self._code(a), self._code(b)

    def _code(self, text: str) -> str:
        coded = self._coded.get(text)
        if coded is None:
            coded = "".join(map(self._alphabet.__getitem__, self._split(text)))
            self._coded[text] = coded
        return coded


class _Alphabet(dict[Any, str]):
    """A character for each token, in the order of appearance."""

    def __missing__(self, token: Any) -> str:
        if len(self) == _CHARACTERS:
            raise InputError(
                "metrics: two answers have more than a million distinct words; shorter ones are "
                "wanted"
            )
        self[token] = character = chr(len(self))
        return character

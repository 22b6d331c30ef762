"""Numbers in an English text, and whether those of two answers differ."""

import re
from collections.abc import Set
from decimal import Decimal
from typing import NamedTuple

from accord.evaluate.words import listed, vocabulary

Value = Decimal | str  # what is no single number is a string: "10:30", "4.1.1.2"

_SMALL = listed(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = listed("twenty thirty forty fifty sixty seventy eighty ninety")
_VALUES = {word: Decimal(n) for n, word in enumerate(_SMALL, 1)} | {
    word: Decimal(10 * n) for n, word in enumerate(_TENS, 2)
}
_SCALES = {
    "dozen": Decimal(12),
    "hundred": Decimal(100),
    "thousand": Decimal(1000),
    "million": Decimal(10**6),
    "billion": Decimal(10**9),
}
_ORDINALS = {
    word: Decimal(n)
    for n, word in enumerate(
        listed("first second third fourth fifth sixth seventh eighth ninth tenth"), 1
    )
}
_MONTH_NAMES = (
    "january february march april may june july august september october november december"
)
_MONTHS = {
    month: Decimal(n)
    for n, month in enumerate(listed("jan feb mar apr may jun jul aug sep oct nov dec"), 1)
}
# How many of the next smaller unit: two weeks are 14 days.
_PARTS = {"year": 12, "week": 7, "day": 24, "hour": 60}
_WHOLES = {"month": 12, "day": 7, "hour": 24, "minute": 60}

_WORD = "|".join(sorted(_VALUES, key=len, reverse=True))
_SCALE = "|".join(_SCALES)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b"
)
_DIGITS = (
    r"(?P<digits>\d{1,3}(?:,\d{3}){1,9}(?:\.\d+)?(?![\d,])|\d+(?:[.:]\d+)*)"
    r"(?P<ordinal>(?:st|nd|rd|th)\b)?(?P<clock>\s?[ap]\.?m\b)?"
)
_MORE = (
    rf"(?P<more>(?:[ -](?:{_WORD}|(?:{_SCALE})(?: and(?= (?:{_WORD})\b))?)\b)*)"
    r"(?:[ -](?P<unit>minute|hour|day|week|month|year)s?\b)?"
)
_BY_DIGITS = re.compile(rf"{_DIGITS}(?P<word>(?!))?{_MORE}")
_BY_EITHER = re.compile(rf"(?:{_DIGITS}|\b(?P<word>(?:{_WORD}|{_SCALE})\b)){_MORE}")
_WORDS = frozenset([*_VALUES, *_SCALES])
_DIGIT = re.compile(r"\d")
_CITED = re.compile(r"\[\d+(?:, ?\d+)*\]")
_STEP = re.compile(r"\bstep (?:\d+|one|two|three|four|five)\b")
_NO_NAME = frozenset(["", "usd", "eur", "gbp", "chf", "rs", "v", "ver", "us"])
_NAME = re.compile(r"[\w-]*")
_LOOSE_WORDS: dict[str, Value] = {
    **_ORDINALS,
    **_MONTHS,
    **dict(zip(listed(_MONTH_NAMES), _MONTHS.values(), strict=True)),
}


class Numbers(NamedTuple):
    """The numbers of a text."""

    firm: frozenset[Value] = frozenset()  # the other text must have them
    loose: frozenset[Value] = frozenset()  # the other text may have them
    timed: frozenset[tuple[Value, str]] = frozenset()  # with their unit of time
    names: frozenset[str] = frozenset()  # W-9, A4


def read_numbers(text: str, known: Set[str] | None = None) -> Numbers:
    """The numbers of a text in `plain` form; `known` is its vocabulary, if that is at hand.

    Digits and words are one: 1,000 = 1000 = a thousand, 1.50 = 1.5, 9:00 = 9, 5 pm = 17. Not firm
    are 0 and 1 ("one" is often no number), ordinals other than days of a month, months, and what
    the unit allows for: two weeks may be 14 days. Marks of lists, "step 2" and citations ([1]) are
    no numbers.
    """
    known = vocabulary(text) if known is None else known
    spelt = not _WORDS.isdisjoint(known)
    if not spelt and not _DIGIT.search(text):
        return Numbers()
    if "step" in known:
        text = _STEP.sub(" ", text)
    if "[" in text:
        text = _CITED.sub(" ", text)
    reader = _Reader(text.replace("24/7", " "), spelt)
    if reader.firm:
        reader.loose.update(_LOOSE_WORDS[word] for word in _LOOSE_WORDS.keys() & known)
    return reader.numbers()


class _Reader:
    """Finds the numbers of a text."""

    def __init__(self, text: str, spelt: bool) -> None:
        self.firm: set[Value] = set()
        self.loose: set[Value] = set()
        self._timed: set[tuple[Value, str]] = set()
        self._names: set[str] = set()
        self._text = text
        position = 0
        while found := _next(text, position, spelt):
            position = self._add(found)

    def _add(self, found: re.Match[str]) -> int:
        """Note one number; gives the position to go on from."""
        start = found.start()
        if found["digits"]:
            letters = _letters_before(self._text, start)
            if letters not in _NO_NAME:
                return self._name(letters, start)
            if _is_mark(self._text, found):
                return found.end("digits")
        value, unit = _value(found), found["unit"]
        small = found["ordinal"] and not _of_month(self._text, found)
        (self.loose if small or value in (0, 1) else self.firm).add(value)
        if unit and isinstance(value, Decimal):
            self._timed.add((value, unit))
            self.loose.update(_other_units(value, unit))
        return found.end()

    def _name(self, letters: str, start: int) -> int:
        """A name with digits: its letters end where the digits start."""
        rest = _NAME.match(self._text, start)
        digits = rest[0] if rest else ""
        self._names.add((letters + digits).replace("-", ""))
        return start + max(len(digits), 1)

    def numbers(self) -> Numbers:
        return Numbers(
            frozenset(self.firm),
            frozenset(self.loose),
            frozenset(self._timed),
            frozenset(self._names),
        )


def _next(text: str, position: int, spelt: bool) -> re.Match[str] | None:
    """The next number; where none is spelt it starts with a digit, which is found much faster."""
    if spelt:
        return _BY_EITHER.search(text, position)
    digit = _DIGIT.search(text, position)
    return _BY_DIGITS.match(text, digit.start()) if digit else None


def _letters_before(text: str, start: int) -> str:
    """The letters that digits are joined to, if any: "w" of w-9."""
    begin = start - 1 if text[start - 1 : start] == "-" else start
    end = begin
    while begin and text[begin - 1].isalpha():
        begin -= 1
    return text[begin:end]


def _is_mark(text: str, found: re.Match[str]) -> bool:
    """Whether a short number marks an entry of a list: "2) ", "(2) ", "Then: 1. "."""
    start, end = found.span("digits")
    after = text[end : end + 2]
    if end - start > 2 or len(after) < 2 or after[0] not in ".):" or not after[1].isspace():
        return False
    before = text[max(0, start - 10) : start].rstrip(" \t(*#>-")
    return before == "" or before[-1] in "\n.:;" or text[start - 1] == "("


def _value(found: re.Match[str]) -> Value:
    digits = found["digits"]
    start = _digits(digits, found["clock"]) if digits else None
    if isinstance(start, str):
        return start
    total, current = Decimal(0), start
    for word in re.split(r"[ -]", (found["word"] or "") + (found["more"] or "")):
        if word in _VALUES:
            current = (current or 0) + _VALUES[word]
        elif word in ("dozen", "hundred"):
            current = (1 if current is None else current) * _SCALES[word]
        elif word in _SCALES:
            total += (1 if current is None else current) * _SCALES[word]
            current = Decimal(0)
    return total + (current or 0)


def _digits(digits: str, clock: str | None) -> Value:
    """The value of digits, a clock time in the 24-hour clock; a string where it is no number."""
    hour, _, rest = digits.partition(":")
    if clock and hour.isdecimal() and int(hour[:3]) <= 12:
        hour = str(int(hour) % 12 + (12 if "p" in clock else 0))
    if rest and rest != "00":
        return f"{hour.lstrip('0') or 0}:{rest}"
    number = hour.replace(",", "")
    if number.count(".") > 1 or len(number) > 28:  # a version, a date; more than Decimal keeps
        return number
    return Decimal(number)


def _of_month(text: str, found: re.Match[str]) -> bool:
    """Whether an ordinal stands beside the name of a month."""
    around = text[max(0, found.start() - 10) : found.start()], text[found.end() : found.end() + 14]
    before = re.search(rf"{_MONTH} (?:the )?$", around[0])
    return bool(before or re.match(rf" (?:of )?{_MONTH}", around[1]))


def _other_units(value: Decimal, unit: str) -> list[Value]:
    """The same time in the next smaller and, where that is whole, the next larger unit."""
    found: list[Value] = [value * _PARTS[unit]] if unit in _PARTS else []
    if unit in _WHOLES and value % _WHOLES[unit] == 0:
        found.append(value / _WHOLES[unit])
    return found


def numbers_differ(a: Numbers, b: Numbers, query: Numbers) -> bool:
    """Whether a firm number is in one answer alone; symmetric.

    Numbers of the query may be left out by either answer, but where both answers have some of
    them and share none ("30 or 60 days?"), they differ. So do the same number with units of time
    that differ (30 days, 30 months) and names with digits (form W-9, form W-4) that share none.
    """
    if a == b:
        return False
    known = query.firm | query.loose
    missing = (a.firm - b.firm - b.loose) | (b.firm - a.firm - a.loose)
    return (
        bool(missing - known)
        or _disjoint(a.firm & known, b.firm & known)
        or _disjoint(a.names, b.names)
        or _units_differ(a, b)
    )


def _disjoint(a: frozenset[Value], b: frozenset[Value]) -> bool:
    return bool(a) and bool(b) and a.isdisjoint(b)


def _units_differ(a: Numbers, b: Numbers) -> bool:
    """Whether a number has units of time on both sides and none in common."""
    units: dict[Value, tuple[set[str], set[str]]] = {}
    for side, numbers in enumerate((a, b)):
        for value, unit in numbers.timed:
            units.setdefault(value, (set(), set()))[side].add(unit)
    return any(ours and theirs and ours.isdisjoint(theirs) for ours, theirs in units.values())

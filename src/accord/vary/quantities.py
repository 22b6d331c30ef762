"""The numbers of a query with their units: a rewording must keep every one of them."""

import re
from functools import lru_cache

from accord.vary.guards import words

_SMALL = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_VALUES = {word: str(n) for n, word in enumerate(_SMALL.split(), start=1)}
_VALUES |= {word: str(10 * n) for n, word in enumerate(_TENS.split(), start=3)}
# Unit by its spellings; "30 days", "30-day" and "30d" are one quantity.
_SPELLINGS = {
    "$": "$ usd dollar dollars buck bucks",
    "€": "€ eur euro euros",
    "£": "£ gbp quid",
    "%": "% percent pct",
    "°": "° degree degrees",
    "ms": "ms millisecond milliseconds",
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "day": "d day days",
    "week": "wk wks week weeks",
    "month": "mo mos month months",
    "year": "y yr yrs year years",
    "kb": "kb kilobyte kilobytes",
    "mb": "mb megabyte megabytes",
    "gb": "gb gig gigs gigabyte gigabytes",
    "tb": "tb terabyte terabytes",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres",
    "in": "inch inches",
    "ft": "ft foot feet",
    "mile": "mi mile miles",
    "g": "g gram grams",
    "kg": "kg kilo kilos kilogram kilograms",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "l": "l liter liters litre litres",
    "v": "volt volts",
    "w": "watt watts kw",
    "hz": "hz khz mhz ghz",
    "am": "am a.m",
    "pm": "pm p.m",
}
UNITS = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_SCALES = {"hundred": 2, "thousand": 3, "k": 3, "million": 6, "billion": 9}
_TIME = "second|minute|hour|day|week|month|year"  # "one" is a number before these
_SYMBOLS = words("s m h d g l y v w")  # units only where they touch the digits: 30d, 5g

_NUMBER = re.compile(
    r"(?P<before>[$€£])?(?<![\w.])(?<![a-z]-)(?:v(?=\d))?"
    r"(?:(?P<digits>\d+(?:[.,:/]\d+)*)|(?P<word>"
    + "|".join(sorted(_VALUES.keys() - {"one"}))
    + r"|one(?=[\s-](?:"
    + _TIME
    + r")\b))\b)"
    r"(?P<space>[\s-]?)(?P<after>[%°€£$]|[a-z]+(?:\.m\b)?)?",
)


@lru_cache(maxsize=8192)
def quantities(text: str) -> dict[str, set[str]]:
    """The numbers of a text, each with the units it has ("" is none).

    Digits and words are one (2 = two, 1,000 = a thousand); `one` is often no number and ordinals
    are words, so neither is read. Letters glued to digits that are no unit make a name (MP3, 4xx).
    """
    found: dict[str, set[str]] = {}
    for match in _NUMBER.finditer(text.casefold()):
        tail = match["after"] or ""
        scale = _SCALES.get(tail, 0)
        if match["digits"] and tail and not match["space"] and not (scale or tail in UNITS):
            continue
        value = _VALUES[match["word"]] if match["word"] else _plain(match["digits"])
        if scale:
            value = _scaled(value, scale)
        found.setdefault(value, set()).add(_unit(match, tail))
    return found


def quantities_differ(query: str, candidate: str) -> str | None:
    """What is wrong with the numbers of a candidate, or None."""
    ours, theirs = quantities(query), quantities(candidate)
    if apart := ours.keys() ^ theirs.keys():
        return f"a number is lost or added: {', '.join(sorted(apart))}"
    for value, units in ours.items():
        if units - {""} and theirs[value] - {""} and units - {""} != theirs[value] - {""}:
            return f"another unit: {value}"
        if ("" in units) != ("" in theirs[value]):
            return f"a unit is lost or added: {value}"
    return None


def _plain(digits: str) -> str:
    """1,000 is 1000 and 1.50 is 1.5; dates, versions and times stay as they are."""
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits):
        digits = digits.replace(",", "")
    if re.fullmatch(r"\d+\.\d*0", digits):
        digits = digits.rstrip("0").rstrip(".")
    return digits


def _scaled(value: str, zeros: int) -> str:
    whole, _, part = value.partition(".")
    if not (whole + part).isdecimal():
        return value + "0" * zeros
    return (whole + part.ljust(zeros, "0")[:zeros]) if len(part) <= zeros else value


def _unit(match: re.Match[str], tail: str) -> str:
    if match["before"]:
        return match["before"]
    if tail in _SYMBOLS and match["space"]:
        return ""
    return UNITS.get(tail, "")

"""Reasons why two answers to one question cannot be equivalent, whatever words they share.

Metrics of shared words and shared meaning both rate "you can" and "you cannot" as nearly equal.
The guard reads only what turns an answer around, in English: a refusal, yes or no at the opening,
numbers, negation. It is made of lists and rules; what they miss is told in docs/results/metrics.md.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from accord.evaluate.negation import Clauses, deny
from accord.evaluate.numerals import Numbers, numbers_differ, read_numbers
from accord.evaluate.words import plain, vocabulary

_CACHED = 256  # texts: pairs come sorted, so that a text is soon met again or not at all
_MARKUP = " \t\n*_>#-\"'"
_HEAD = 80  # characters that are enough to see how a text opens


def conflict(first: str, second: str, query: str = "") -> str | None:
    """Why two answers to `query` cannot be equivalent, or None; symmetric, None for equal texts.

    The first reason that holds: "refusal" (one of them gives no answer), "yes_no" (they open with
    opposite words), "numbers" (a number is in one alone), "negation" (the same is said and denied).
    """
    if first == second:
        return None
    a, b = _read(first), _read(second)
    if a.refuses or b.refuses:
        return None if a.refuses and b.refuses else "refusal"
    if a.opening and b.opening and a.opening != b.opening:
        return "yes_no"
    if numbers_differ(a.numbers, b.numbers, _query_numbers(query)):
        return "numbers"
    return "negation" if deny(a.clauses, b.clauses) else None


def conflicts(
    first: Sequence[str], second: Sequence[str], queries: Sequence[str]
) -> list[str | None]:
    """`conflict` of each pair."""
    return [conflict(a, b, q) for a, b, q in zip(first, second, queries, strict=True)]


class _Reading(NamedTuple):
    refuses: bool
    opening: str | None  # "yes" or "no"
    numbers: Numbers
    clauses: Clauses


@lru_cache(_CACHED)
def _read(text: str) -> _Reading:
    folded = plain(text)
    known = vocabulary(folded)
    return _Reading(
        _refuses(folded),
        _opening(folded[:_HEAD].lstrip(_MARKUP)),
        read_numbers(folded, known),
        Clauses(folded, known),
    )


@lru_cache(_CACHED)
def _query_numbers(query: str) -> Numbers:
    return read_numbers(plain(query))


# --- Refusals

_SOURCE = (
    r"(?:context|passage|document|documentation|text|source|article|excerpt|material|snippet|"
    r"content|page|knowledge base|information|data)s?"
)
_KNOWN = (
    r"(?:mentioned|specified|provided|stated|given|found|described|discussed|addressed|disclosed|"
    r"covered|included|contained|indicated|listed|available|known|clear|explained)"
)
_LEAD = re.compile(
    r"(?:(?:i am |we are )?(?:very |so )?(?:sorry|afraid)|unfortunately|(?:my |our )?apologies|"
    r"i apologi[sz]e|(?:based on|according to|from|in) (?:the|this|these|my)(?: \w+){1,4})"
    r"(?:,? but |,? that |[,.:;!]\s+| )"
)
_REFUSAL = re.compile(
    r"i (?:really |do |did |can |could |am |was )*(?:not|unable to|not able to) (?:\w+ly )?"
    r"(?:know|find|answer|determine|tell|say|see any|locate|sure|certain|assist|help)\b"
    r"|we (?:really |do |are )*not (?:\w+ly )?(?:know|sure|certain)\b"
    r"|(?:i|we) (?:do |did |can |could )*(?:not )?(?:have|see|find) "
    r"(?:no|any|enough|sufficient|the|that|this)"
    r"(?: \w+){0,2} (?:information|details|data|context|knowledge|answer|mention)\b"
    r"|(?:(?:it|this|that) )?(?:(?:is |was )?(?:unable|not possible|impossible) to|can not) "
    r"(?:be )?(?:find|found|answer|answered|determine|determined|tell|locate|located|say)"
    r"(?= (?:this|that|an answer|the answer|any|from|in the|based|whether|with)\b|\W*$)"
    rf"|(?!if |when |where )(?:[^,]{{0,80}} )?not (?:\w+ly )?{_KNOWN}(?: anywhere)? "
    r"(?:in|by|within|from) "
    rf"(?:the|this|these|those|any|either|your|my)(?: \w+){{0,2}} {_SOURCE}\b"
    rf"|(?:it|this|that|(?:the|this|that) (?:answer|information))?(?: is| was)? ?"
    rf"not (?:\w+ly )?{_KNOWN}\W*$"
    rf"|(?:the|this|these|neither|none of the|your|my)(?: \w+){{0,3}}? {_SOURCE} "
    r"(?:itself |you \w+ )?(?:(?:do|does|did|can) not|contains?|provides?|has|have|gives?) "
    r"(?:\w+ly )?(?:mention|say|state|specify|contain|provide|answer|address|discuss|indicate|"
    r"describe|explain|tell|(?:\w+ ){0,3}(?:no|any) (?:\w+ ){0,2}(?:information|details|answer|"
    r"mention)|(?:include|give|offer|have|list|cover) (?:\w+ ){0,3}"
    r"(?:information|details|answer|instructions|this|that))\b"
    rf"|the answer (?:is|was|can|could) not\b.*\b{_SOURCE}"
    r"|(?:there (?:is|was|are) )?(?:no|not (?:any|enough)|not sufficient|insufficient) "
    r"(?:\w+ ){0,2}(?:information|details|mention|answer|indication|evidence)"
    r"(?: (?:about|on|regarding|concerning|available|provided|given|found|of|as to|to|that|is "
    r"(?:available|provided|given|found)|in (?:the|this|these)(?: \w+){0,2} "
    rf"{_SOURCE})\b|\W*$)"
    r"|n/a\W*$|unknown\W*$|(?:it|this) is (?:unclear|unknown)\b"
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+|,? (?=but |however|although |though )")
_ANSWERED = 6  # words besides the refusal that make the text an answer after all


def _refuses(text: str) -> bool:
    """Whether a text gives no answer: blank, or its first sentence says that there is none.

    An apology or a preamble may come before, a hint of up to five words after; more is an answer.
    """
    text = text.strip(_MARKUP)
    if not text:
        return True
    lead = _LEAD.match(text)
    body = text[lead.end() :] if lead else text
    if not _REFUSAL.match(body):
        return False
    rest = [s for s in _SENTENCE.split(body)[1:] if not _REFUSAL.match(s)]
    return sum(len(s.split()) for s in rest) < _ANSWERED


# --- Yes and no

_YES = re.compile(
    r"(?:yes|yeah|yep|yup)\b|(?:correct|certainly|absolutely|definitely|sure|of course|indeed|true|"
    r"right|that is (?:right|correct|true))(?=[.,;:!*_]|\s+[-\u2013\u2014]|\s*$)"
)
_NO = re.compile(
    r"(?:no|nope|nah|not at all|incorrect|false|(?:absolutely|certainly|definitely|of course) not|"
    r"that is (?:not |in)(?:right|correct|true))"
    r"(?=[,;:!*_\u2013\u2014]|\.(?! ?\d)|\s+[-\u2013\u2014]|\s*$"
    r"|\s+(?:you|it|they|we|he|she|i|there|this|that)\b)"
)


def _opening(start: str) -> str | None:
    """The answer a text opens with: "No, ..." but not "No fees ...", "No. 5" or "No problem"."""
    if _YES.match(start):
        return "yes"
    return "no" if _NO.match(start) else None

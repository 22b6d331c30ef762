"""The meaning guard: a reason why a candidate is no rewording of a query, or None.

It reads what a question cannot lose without becoming another one: numbers and units, negations
and opposites, names and code, what is asked for, the language. It is made of lists and rules for
English; for other languages only scripts, numbers, names and the encoder's similarity speak. It
sees no facts: two questions that pass may still ask different things.
"""

import re
import textwrap
import unicodedata
from collections.abc import Collection
from typing import NamedTuple

from accord.vary.kinds import kinds_differ
from accord.vary.language import language_differs, script
from accord.vary.named import Entities, lost
from accord.vary.polarity import polarity_differs
from accord.vary.quantities import quantities_differ

# Signs that belong to a word: C++, C#, .NET, $5, 10%, --force, 4.1.1.2, e-mail, don't, a/b.
_TOKEN = re.compile(
    r"(?:(?<!\S)--?(?=\w)|(?<!\w)[.@#/\\](?=\w))?[$€£]?\w+(?:[.,:/@\\'\u2019+#&-]\w+)*(?:[+#]+|%)?"
)
_ARTICLES = frozenset({"a", "an", "the"})
LONGEST = 4000
"""Characters. A longer text is no query, and no rewording of one."""
_LONGEST_REASON = 120


class Limits(NamedTuple):
    """What a candidate must keep to."""

    threshold: float = 0.7  # least cosine similarity of the encoder
    identical: float = 0.995  # greatest one
    length_ratio: float = 3.0  # the longer text has at most so many times the other's characters


DEFAULTS = Limits()


def meaning(
    query: str,
    candidate: str,
    *,
    similarity: float | None = None,
    limits: Limits = DEFAULTS,
    kept: Collection[str] = (),
    entities: Entities | None = None,
) -> str | None:
    """Why `candidate` may not ask the same as `query`, in a lower-case phrase, or None.

    Args:
        query: what was asked.
        candidate: another wording of it.
        similarity: cosine similarity of the two under an encoder; None is not looked at.
        limits: bounds of similarity and length.
        kept: candidates that are kept already; one that repeats them says nothing new.
        entities: further protected words of a text, such as `named.spacy_entities()`.
    """
    if not candidate.strip() or len(candidate) > LONGEST or _has_controls(candidate):
        return "empty, longer than a query, or with control characters"
    same = fold(candidate)
    if same == fold(query):
        return "repeats the query"
    if any(same == fold(other) for other in kept):
        return "repeats another wording"
    reason = _form_differs(query, candidate, limits) or _content_differs(
        query, candidate, similarity, limits, entities
    )
    return reason and textwrap.shorten(reason, _LONGEST_REASON, placeholder="...")


def _form_differs(query: str, candidate: str, limits: Limits) -> str | None:
    short, long = sorted((len(query.strip()), len(candidate.strip())))
    if short * limits.length_ratio < long:
        return f"length ratio {long / max(short, 1):.1f} above {limits.length_ratio:g}"
    if languages := language_differs(query, candidate):
        return f"another language: {languages}"
    return None


def _content_differs(
    query: str,
    candidate: str,
    similarity: float | None,
    limits: Limits,
    entities: Entities | None,
) -> str | None:
    if numbers := quantities_differ(query, candidate):
        return numbers
    if script(query) in ("latin", ""):
        if polarity := polarity_differs(query, candidate):
            return polarity
        if asked := kinds_differ(query, candidate):
            return f"asks for something else: {asked}"
    if name := lost(query, candidate, entities):
        return f"a name or code is lost or added: {name}"
    if similarity is None:
        return None
    if not similarity >= limits.threshold:  # nor where it is not a number
        return f"similarity {similarity:.3f} below {limits.threshold:g}"
    if similarity > limits.identical:
        return f"similarity {similarity:.3f} above {limits.identical:g}"
    return None


def fold(text: str) -> str:
    """A text without case, punctuation and articles; texts with one fold are one wording."""
    normal = unicodedata.normalize("NFC", text).casefold().replace("\u2019", "'")
    kept = [token for token in _TOKEN.findall(normal) if token not in _ARTICLES]
    return " ".join(kept) or " ".join(normal.split())


def _has_controls(text: str) -> bool:
    return any(unicodedata.category(c) in {"Cc", "Cs"} and c not in "\t\n\r" for c in text)

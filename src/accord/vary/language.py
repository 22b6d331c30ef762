"""Whether two texts are plausibly in one language, by their script and their commonest words."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from accord.vary.guards import words

# Common words that no other of these languages has as a common one.
_COMMON = {
    "English": words(
        "the is are was what which how where when who why does did can could should would my you "
        "your with from for this that there have and of it to be not i we"
    ),
    "German": words(
        "der das und ist nicht wie kann ich ein eine einen wo wann warum wer mit f\u00fcr auf "
        "mein meine sie den dem zu wird sind welche welcher"
    ),
    "French": words(
        "le les est et une dans pour qui je mon ma o\u00f9 quand pourquoi quel quelle des du "
        "comment puis avec sont vous nous sur mes ce cette peut puis-je"
    ),
    "Spanish": words(
        "el los las y una para puedo c\u00f3mo qu\u00e9 d\u00f3nde cu\u00e1ndo mi est\u00e1 con "
        "por cu\u00e1l son del se hacer como qui\u00e9n cual"
    ),
    "Italian": words(
        "il gli una per posso dove quando perch\u00e9 mio mia con sono della che di quale chi come "
        "nel \u00e8"
    ),
    "Portuguese": words(
        "os uma para posso como onde quando porque meu minha com s\u00e3o da do qual quem n\u00e3o "
        "em \u00e9 fazer"
    ),
    "Dutch": words(
        "het een ik hoe kan mijn waar wanneer waarom wie niet voor met zijn wat van op naar deze "
        "welke"
    ),
}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def language_differs(query: str, candidate: str) -> str | None:
    """The scripts or languages of two texts if they are plainly not the same; symmetric."""
    scripts = script(query), script(candidate)
    if all(scripts) and scripts[0] != scripts[1]:
        return f"{scripts[0]} / {scripts[1]} letters"
    ours, theirs = language(query), language(candidate)
    if ours and theirs and ours != theirs:
        return f"{ours} / {theirs}"
    return None


@lru_cache(maxsize=8192)
def script(text: str) -> str:
    """The script of most letters of a text, in Unicode's words (`latin`, `arabic`), "" if none."""
    counts = Counter(_script(c) for c in text[:1000] if c.isalpha())
    return counts.most_common(1)[0][0] if counts else ""


def _script(character: str) -> str:
    first = unicodedata.name(character, "unknown").split()[0].lower()
    # Japanese mixes three; halves of one text may lean to either.
    return "cjk" if first in {"hiragana", "katakana", "cjk"} else first


@lru_cache(maxsize=8192)
def language(text: str) -> str:
    """The language of a text in Latin letters by its common words, "" where it is not plain."""
    tokens = _WORD.findall(text[:2000].casefold())
    scores = sorted(
        ((sum(token in common for token in tokens), name) for name, common in _COMMON.items()),
        reverse=True,
    )
    (best, name), (next_best, _) = scores[0], scores[1]
    return name if best >= 2 and best > next_best else ""

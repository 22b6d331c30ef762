"""Words of an English text: what the guard and the masked containment read."""

import re
from functools import lru_cache


def listed(text: str) -> tuple[str, ...]:
    """Words written as one string."""
    return tuple(text.split())


STOP_WORDS = frozenset(
    listed(
        "a about above after again all also am an and any are as at be because been before being "
        "below between both but by can could d did do does doing down during each either else "
        "even ever every few for from further had has have having he her here hers herself him "
        "himself his how i if in into is it its itself just ll m may me might mine more most "
        "must my myself need of off on once only onto or other ought our ours ourselves out over "
        "own per please quite rather re s same shall she should so some still such t than that "
        "the their theirs them themselves then there these they this those through thus to too "
        "under until up upon us ve very via was we were what when where whether which while who "
        "whom whose why will with within would yes yet you your yours yourself yourselves able "
        "allow allowed anyone someone everyone not no nor never none neither cannot without "
        "unless nobody nothing don doesn didn isn aren wasn weren won wouldn shouldn couldn "
        "mustn hasn haven hadn shan needn"
    )
)


_WORD = re.compile(r"\w+")
_BLANKED = {code: " " for code in range(128) if not _WORD.match(chr(code))}
_LETTERS = {code: " " for code in range(128) if not chr(code).isalpha()}


def words(text: str) -> list[str]:
    """Case-folded runs of letters, digits and underscores of any script."""
    if text.isascii():  # the same, twice as fast
        return text.lower().translate(_BLANKED).split()
    return _WORD.findall(text.casefold())


def plain(text: str) -> str:
    """Case-folded, with straight apostrophes and `not` spelt out: "can't" is "can not"."""
    text = text.casefold().replace("\u2019", "'")
    if "'" in text:
        text = text.replace("can't", "can not").replace("won't", "will not")
        text = text.replace("n't", " not").replace("i'm", "i am").replace("'s", " is")
    return text.replace("cannot", "can not")


def vocabulary(text: str) -> set[str]:
    """The runs of letters in a text: a fast way to see that a listed word is not there."""
    return set(text.translate(_LETTERS).split())


@lru_cache(2**16)
def singular(word: str) -> str:
    """A word without the ending of its plural: the S stemmer (Harman 1991, table 1)."""
    if len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies") and word[-4] not in "ea":
        return word[:-3] + "y"
    if word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    return word if word[-2] in "us" else word[:-1]

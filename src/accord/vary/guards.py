"""What a rule must not touch: protected text, nouns that do not change number, a/an by sound.

The lists are short on purpose: each word was seen to go wrong (or is of a class that did) when
number was changed without guards, where only one rewording in six keeps grammar and meaning.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from types import ModuleType

from accord.errors import InputError

_PROTECTED = re.compile(
    r"```.*?```|`[^`]*`"  # code
    r'|"[^"]*"|“[^”]*”|„[^“”]*[“”]|«[^»]*»'  # quotes
    r"|(?<!\w)'[^'\n]+'(?!\w)"
    r"|(?<!\w)\u2018[^\u2018\u2019\n]+\u2019(?!\w)"  # single quotes, not apostrophes
    r"|\b(?:https?|ftp|file)://\S+|\bwww\.\S+"  # addresses
    r"|\[[^\]\n]*\]|<[^>\n]*>|\{[^}\n]*\}",  # placeholders
    re.DOTALL,
)


class Spans:
    """Character spans of a text that must stay as they are: quotes, code, addresses."""

    def __init__(self, text: str) -> None:
        self._spans = [m.span() for m in _PROTECTED.finditer(text)]
        self._starts = [start for start, _ in self._spans]

    def outside(self, text: str) -> str:
        """The text with its protected spans blanked."""
        return _PROTECTED.sub(lambda span: " " * len(span[0]), text)

    def touch(self, start: int, end: int) -> bool:
        """Whether [start, end) overlaps a protected span."""
        nearest = bisect_right(self._starts, end - 1) - 1
        return nearest >= 0 and self._spans[nearest][1] > start


def words(text: str) -> frozenset[str]:
    """A set of words written as one string."""
    return frozenset(text.split())


# Idioms ("in a way", "as a rule"), spans of time, measures and containers of other nouns
# ("a list of"): another number or no article is another phrase.
IDIOMS = words(
    "other others else way row time result lot bit couple number example rule kind type sort "
    "list set group series range pair hand mind place order case part role sense chance "
    "difference look break try deal amount majority minority variety total second minute hour "
    "day week month year decade century percent percentage half quarter dozen hundred thousand "
    "million billion while moment point rest end beginning middle start past future present "
    "morning afternoon evening night world fly go same following above below matter fact extent "
    "basis event meantime process weekend today tomorrow yesterday one ones thing something "
    "anything reason purpose loss risk need use issue problem idea view favor favour hurry "
    "shame pity whole truth lead hold turn step walk ride nap guess attempt effort copy name "
    "interest share"
)
# Mass nouns and pluralia tantum that the inflection table lists as countable, nouns whose plural
# or singular means something else, and things that a person has one of.
ONE_NUMBER = words(
    "period periods plate plates title titles advice access software hardware traffic equipment "
    "luggage baggage furniture homework research knowledge feedback information news data media "
    "metadata malware spam mail email e-mail staff personnel police cash money credit income "
    "revenue weather air water electricity internet web evidence progress pandas certificate "
    "certificates keras kubernetes windows music luck health care education employment housing "
    "insurance assistance help support training maintenance compliance security privacy "
    "performance documentation code text content status space memory storage bandwidth power "
    "energy people person parent settings setting credential credentials statistics statistic "
    "analytics metric metrics logistics mathematics physics economics politics ethics graphics "
    "basics specs detail details instruction instructions benefit benefits good goods fund "
    "funds saving savings earning earnings tax taxes wage wages asset assets debt debts arrears "
    "glasses clothes jeans trousers pants scissors headquarters premises thanks thank means "
    "mean term terms condition conditions circumstance circumstances regulation regulations "
    "right rights due dues fee fees resource resources service services operation operations "
    "communication communications hour hours odds regards regard remains contents surroundings "
    "belongings proceeds outskirts riches customs custom manners manner arms arm license "
    "licence visa passport job career spouse husband wife home house card registration "
    "reconsideration hearing deferment lienholder age birth death marriage divorce disability "
    "dmv law laws art arts science sciences public community government president king queen "
    "country economy environment climate change changes work works effect effects color colors "
    "colour colours need needs future goal goals aim aims step steps"
)
# Countable nouns that the inflection table also gives an unchanged plural; in a query they count.
COUNTABLE = words(
    "account question secret property school lab shape file form request session test query "
    "table column row package plan report message invoice order payment refund document "
    "application claim vehicle car boat truck loan course class exam deadline ticket user "
    "customer client server database cluster container job task function variable value "
    "parameter model dataset image page link address device phone printer error warning bug "
    "version release update upgrade connection network driver key token password profile role "
    "permission policy contract office store product tool template chart graph contact battery "
    "cable adapter screen keyboard button menu tab window icon field option filter record "
    "string line area section method command action thread note appointment system college song "
    "paper shot road exception character injury description combination violation vulnerability "
    "film painting location company party language cake answer sport shop scholarship repair "
    "prescription port plant charge argument picture photo video camera book letter parcel "
    "review comment post channel group meeting event calendar reminder alert notification "
    "project branch commit repository environment endpoint certificate domain website browser "
    "plugin extension dashboard widget workflow trigger rule label tag category partition index "
    "dependency bucket disk backup snapshot node edge layer feature metric experiment flight "
    "hotel room seat bag meal recipe garden tree bird dog cat horse bicycle bike tyre tire lamp "
    "door wall chair machine engine bank supplier vendor partner agent manager employee "
    "colleague member visitor guest team bonus voucher coupon gift folder library module script "
    "notebook pipeline subscription"
)
# Adjectives that count, compare or single out.
COUNTING = words(
    "first second third last next previous same only other another single sole main different "
    "various multiple several many few numerous certain such own separate individual respective "
    "particular specific following additional further extra more most less least fewer enough "
    "final initial original whole entire full total double triple dual joint mutual similar "
    "identical equal distinct diverse whichever both all each every either neither one two "
    "three current existing right wrong proper correct exact very daily weekly monthly annual "
    "yearly large small great good considerable fair"
)
# "make a change" is not "make change": here the article belongs to the verb phrase.
LIGHT_VERBS = words("make take have give get do pay go be become keep lose hold set")
# Verbs whose object is a set, or one of a set.
SET_VERBS = words(
    "merge combine join compare collect gather sort group distinguish differentiate alternate "
    "list count switch swap concatenate match mix vary have mean call name marry star feature "
    "win become earn depend consist rank exchange contain include play"
)
# Prepositions after which number carries meaning ("between servers", "as a student").
NUMBER_PREPOSITIONS = words(
    "in of between among amongst across per as like than by at within amid during until till "
    "since throughout around after before off out up"
)
PRONOUNS = words(
    "it its itself they them their theirs themselves he him his she her hers one ones these "
    "those this both either neither other others"
)

_VOWEL_LETTERS = frozenset("AEFHILMNORSX")
_SPOKEN = words("RAM ROM LAN SIM SAP SAS SOAP REST NASA NATO FIFA LASER RAID RAG LIFO FAQ SCUBA")
_LIKE_YOU = re.compile(
    r"(?:u(?:ni(?!n|m)|s[aeiu]|t[ei]|r[liae](?!n)|bi)|e[uw]|onc?e(?!r)|oui)", re.I
)
_LIKE_YOU_WORD = re.compile(r"(?:ui|uid|uuid|usb|us|uk|ups|udp|ux|un|urls?|uri|utf|uv|u)\b", re.I)
_SILENT_H = re.compile(r"(?:hour|honest|hono(?:u?r)|heir)", re.I)


def article(phrase: str) -> str:
    """`a` or `an`, by the sound that the phrase begins with: an hour, a user, an NGO, an 8."""
    word = phrase.split()[0] if phrase.split() else ""
    first = re.split(r"[-/.]", word)[0] or word
    if first[:1].isdigit():
        return "an" if re.match(r"8|(?:11|18)(?!\d)", first) else "a"
    if _LIKE_YOU_WORD.match(first):
        return "a"
    if _spelled_out(first):
        return "an" if first[0].upper() in _VOWEL_LETTERS else "a"
    if _SILENT_H.match(first):
        return "an"
    if _LIKE_YOU.match(first):
        return "a"
    return "an" if first[:1].lower() in set("aeiou") else "a"


def _spelled_out(word: str) -> bool:
    """Whether a word is said letter by letter: one letter, capitals, or no vowel in it."""
    letters = re.sub(r"[^A-Za-z]", "", word)
    if not letters or letters.upper() in _SPOKEN:
        return False
    capitals = letters.rstrip("s").isupper()
    return len(letters) == 1 or capitals or not re.search(r"[aeiouy]", letters, re.I)


@lru_cache(maxsize=4096)
def plural_of(noun: str) -> str | None:
    """The one plural of a countable singular, or None where number is not a safe edit."""
    forms = _noun_forms(noun)
    if noun in ONE_NUMBER | IDIOMS:
        return None
    if noun in forms.get("NNS", ()) and noun not in COUNTABLE:
        return None
    if noun not in forms.get("NN", ()) or len(forms.get("NNS", ())) == 0:
        return None
    plural = str(forms["NNS"][0])
    return None if plural == noun or plural in ONE_NUMBER else plural


@lru_cache(maxsize=4096)
def singular_of(noun: str) -> str | None:
    """The singular of a countable plural, or None where number is not a safe edit."""
    lemmas = _inflections().getAllLemmas(noun, upos="NOUN").get("NOUN", ())
    if len(lemmas) != 1 or lemmas[0] == noun or noun in ONE_NUMBER:
        return None
    singular = str(lemmas[0])
    return singular if plural_of(singular) == noun else None


@lru_cache(maxsize=4096)
def is_english(word: str) -> bool:
    """Whether the inflection table knows the word."""
    return bool(_inflections().getAllLemmas(word))


@lru_cache(maxsize=4096)
def lemma(word: str, part: str) -> str:
    """The base form of a word in lower case as a `NOUN` or a `VERB`, the word itself if unknown."""
    found = _inflections().getAllLemmas(word, upos=part).get(part, ())
    return str(found[0]) if found else word


def _noun_forms(noun: str) -> dict[str, tuple[str, ...]]:
    forms: dict[str, tuple[str, ...]] = _inflections().getAllInflections(noun, upos="NOUN")
    return forms


def _inflections() -> ModuleType:
    try:
        import lemminflect
    except ImportError:
        raise missing("lemminflect") from None
    module: ModuleType = lemminflect
    return module


def missing(package: str) -> InputError:
    """The error for a package that comes with the extra `vary`."""
    return InputError(
        f"the variations of number, article and typo need {package}, which is not installed; "
        'pip install "accord[vary]"'
    )


def any_of(words: Iterable[str], among: frozenset[str]) -> bool:
    """Whether any of the words, in lower case, is in the set."""
    return any(word.lower() in among for word in words)

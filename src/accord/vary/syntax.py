"""What the parse says about a noun: what it hangs on, what hangs on it, which verb governs it."""

from typing import TYPE_CHECKING

from accord.vary import guards

if TYPE_CHECKING:
    from spacy.tokens import Token


def hangs_on_one(noun: "Token") -> bool:
    """Whether the phrase belongs to another thing: `a card for a child`, `my key to a new lock`."""
    if noun.dep_ != "pobj":
        return False
    # The parser errs in what a preposition hangs on: a noun right before it may be it.
    above, before = noun.head.head, noun.doc[max(noun.head.i - 1, 0)]
    if above.tag_.startswith("NN") or before.tag_.startswith("NN"):
        return True
    objects = (child for child in above.children if child.dep_ == "dobj")
    return any(child.dep_ == "poss" for thing in objects for child in thing.children)


def is_past(token: "Token") -> bool:
    """Whether the token puts its clause in the past or the perfect."""
    perfect = token.dep_ == "aux" and token.lower_ in {"have", "has", "had", "'ve"}
    return bool(perfect or token.tag_ == "VBD")


def states_a_fact(noun: "Token") -> bool:
    """Whether the clause of the noun tells of the asker (`I have a freeze`), not asks."""
    verbs = (token for token in noun.ancestors if token.tag_ in {"VBP", "VBZ", "VBD"})
    verb = next(verbs, None)
    if verb is None or any(child.dep_ == "aux" for child in verb.children):
        return False
    subjects = [child for child in verb.children if child.dep_ == "nsubj"]
    return guards.any_of((child.text for child in subjects), guards.words("i we he she"))


def has_clause(noun: "Token") -> bool:
    """Whether a relative clause or another clause hangs on the noun."""
    return any(child.dep_ in {"relcl", "acl", "advcl", "ccomp"} for child in noun.children) or (
        noun.i + 1 < len(noun.doc) and noun.nbor().lower_ in {"that", "which", "who", "whose"}
    )


def has_of(noun: "Token") -> bool:
    """Whether an of-phrase hangs on the noun."""
    return any(child.dep_ == "prep" and child.lower_ == "of" for child in noun.rights)


def verb_above(noun: "Token") -> str:
    """Lemma of the verb that governs the noun, past its preposition."""
    head = noun.head.head if noun.dep_ == "pobj" else noun.head
    return guards.lemma(head.lower_, "VERB")

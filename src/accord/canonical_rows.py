"""The rows NAME+canonical: a model that is asked, and searched for, the canonical query.

The canonicaliser stands in front of the whole system: passages are retrieved for the canonical form
and the model reads it. Wordings with one form have the same passages, so they are asked once.
"""

from collections.abc import Sequence

from accord.records import Answer, Wording
from accord.vary.canonical import canonical


def canonical_form(asked: Sequence[Wording]) -> list[Wording]:
    """The wordings with their canonical queries in place of their own."""
    return [w.model_copy(update={"query": canonical(w.query) or w.query}) for w in asked]


def distinct(forms: Sequence[Wording]) -> list[Wording]:
    """The first wording of each form, in order."""
    return list({form.query: form for form in reversed(forms)}.values())[::-1]


def spread(
    said: Sequence[Answer], asked: Sequence[Wording], forms: Sequence[Wording]
) -> list[Answer]:
    """The answers to `distinct` forms, for every wording of a form; `asked` is what was asked.

    `asked` and `forms` are of the same order. The rows keep theirs.
    """
    first = {form.query: form.id for form in distinct(forms)}
    rows: dict[str, dict[str, Answer]] = {}
    for answer in said:
        rows.setdefault(answer.model, {})[answer.id] = answer
    return [
        Answer.model_validate(
            {
                **own[first[form.query]].model_dump(),
                "id": w.id,
                "original_id": None if w.type is None else w.original_id,
                "type": w.type,
                "query": w.query,
                "asked": form.query,
            }
        )
        for own in rows.values()
        for w, form in zip(asked, forms, strict=True)
    ]

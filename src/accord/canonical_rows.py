"""The rows NAME+canonical: a model that is asked, and searched for, the canonical query.

The canonicaliser stands in front of the whole system: passages are retrieved for the canonical form
and the model reads it. Wordings with one form have the same passages, so they are asked once.
"""

from collections.abc import Sequence

from accord.records import Wording
from accord.vary.canonical import canonical


def canonical_form(asked: Sequence[Wording]) -> list[Wording]:
    """The wordings with their canonical queries in place of their own."""
    return [w.model_copy(update={"query": canonical(w.query) or w.query}) for w in asked]

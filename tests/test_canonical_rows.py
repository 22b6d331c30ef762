"""The rows NAME+canonical: wordings with the queries that are put for them."""

from accord.canonical_rows import canonical_form
from accord.records import Wording

QUERIES = {
    "q1": "How do I close an account?",
    "q1~how_to_do~0": "how to close an account",
    "q1~semantic~0": "what ends my contract with you",
    "q2": "how to open accounts",
}


def wordings():
    found = []
    for id_, query in QUERIES.items():
        question, _, rest = id_.partition("~")
        kind = rest.partition("~")[0] or None
        found.append(Wording(id=id_, original_id=question, type=kind, query=query, split="test"))
    return found


def test_wordings_keep_their_ids_and_get_their_forms():
    forms = canonical_form(wordings())
    assert [f.id for f in forms] == list(QUERIES)
    assert forms[0].query == forms[1].query != forms[3].query


def test_a_query_without_words_keeps_its_own_form():
    (only,) = canonical_form(
        [Wording(id="q", original_id="q", type=None, query="???", split="test")]
    )
    assert only.query

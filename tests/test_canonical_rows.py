"""The rows NAME+canonical: one question for each form, its answer for every wording of the form."""

from accord.canonical_rows import canonical_form, distinct, spread
from accord.records import Answer, Wording

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


def test_wordings_with_one_form_are_asked_once_in_order():
    forms = canonical_form(wordings())
    assert [f.id for f in forms] == list(QUERIES)
    assert forms[0].query == forms[1].query != forms[3].query
    assert [f.id for f in distinct(forms)] == ["q1", "q1~semantic~0", "q2"]


def test_every_wording_gets_the_answer_of_its_form_and_keeps_its_own_words():
    asked = wordings()
    forms = canonical_form(asked)
    said = [
        Answer(model=row, id=f.id, query=f.query, answer=f"{row} {f.id}", passages=("p",))
        for row in ("B+canonical", "Merged+canonical")
        for f in distinct(forms)
    ]
    answers = spread(said, asked, forms)
    assert [(a.model, a.id) for a in answers] == [
        (row, id_) for row in ("B+canonical", "Merged+canonical") for id_ in QUERIES
    ]
    assert [a.answer for a in answers[:4]] == [
        "B+canonical q1",
        "B+canonical q1",
        "B+canonical q1~semantic~0",
        "B+canonical q2",
    ]
    assert [a.query for a in answers[:4]] == list(QUERIES.values())
    assert [a.original_id for a in answers[:4]] == [None, "q1", "q1", None]
    assert answers[1].asked == forms[0].query and answers[1].passages == ("p",)


def test_a_query_without_words_keeps_its_own_form():
    (only,) = canonical_form(
        [Wording(id="q", original_id="q", type=None, query="???", split="test")]
    )
    assert only.query

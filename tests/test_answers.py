"""Answers paired up; and answer sets, `answer`, `data` and `drawn`, that other tests share."""

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import InputError
from accord.evaluate.answers import check_answers, entrants, share
from accord.records import Answer

TEXT = "pay the refund within thirty days you can log in with a password never ask"
WORDS = TEXT.split()
TYPES = ("how_to_do", "semantic")
LENGTHS = (0, 1, 4, 10, 11, 30, 31, 45, 100, 101, 120)  # words, on both sides of every bin's edge
PASSAGES = ((), ("a", "b"), ("a", "b"), ("b", "a"), ("a", "c"))
SEEDS = st.integers(0, 10**6)


def answer(model, id_, text, original=None, **extra):
    kind = None if original is None else extra.pop("type", "semantic")
    fields = {"model": model, "id": id_, "original_id": original, "type": kind, "query": f"{id_}?"}
    return Answer(**fields | {"answer": text} | extra)


def blur(text, chance, source):
    return " ".join(source.choice(WORDS) if source.random() < chance else w for w in text.split())


def data(questions=12, models=("B", "SFT"), seed=0):
    """Answers of models to questions with 1 to 3 variations; better models vary less."""
    source = random.Random(seed)
    references = {f"q{i}": " ".join(source.choices(WORDS, k=8)) for i in range(questions)}
    answers = []
    for rank, model in enumerate(models):
        for i, (id_, wanted) in enumerate(references.items()):
            said = blur(wanted, 0.4, source)
            answers.append(answer(model, id_, said))
            for v in range(1 + i % 3):
                text = blur(said, 0.3 / (1 + rank), source)
                answers.append(answer(model, f"{id_}.{v}", text, id_, type=TYPES[v % 2]))
    return answers, references


def drawn(source, models=2, seeds=2, missing=0.08):
    """(files, references): random answers, some missing, some asked again, none the same size."""
    wordings = []
    for i in range(source.randint(1, 6)):
        wordings.append((f"q{i}", None, None))
        for v in range(source.choice((0, 1, 2, 2, 3, 4))):
            wordings.append((f"q{i}-{v}", f"q{i}", source.choice(TYPES)))
    texts = ["", " ", *(" ".join(source.choices(WORDS, k=k)) for k in LENGTHS)]
    own = {id_: source.choice(texts) for id_, original, _ in wordings if original is None}
    references = {id_: source.choice([None, " ", *texts[3:]]) for id_ in own}
    labels = [str(s) for s in range(source.randint(1, seeds))]
    files = {label: [] for label in labels}
    for model in "BCD"[: source.randint(1, models)]:
        for label, (id_, original, kind) in ((a, b) for a in labels for b in wordings):
            for repeat in range(source.choice((1, 1, 1, 2, 3))):
                if source.random() >= missing:
                    text = own[original or id_]
                    text = source.choice((text, text, blur(text, 0.2, source), *texts[2:8]))
                    made = answer(model, id_, text, original, type=kind, repeat=repeat)
                    made = made.model_copy(update={"passages": source.choice(PASSAGES)})
                    files[label].append(made)
    return files, references


def shared_ids(files):
    """Ids that every model with a scored answer answered under every seed that it has."""
    found = {}
    for label, answers in files.items():
        for a in answers:
            if a.contexts == "own" and a.repeat == 0:
                found.setdefault((a.model, label), set()).add(a.id)
    return set.intersection(*found.values()) if found else set()


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_pairs_are_those_of_a_plain_loop(seed):
    source = random.Random(seed)
    files, references = drawn(source)
    rows = entrants(files)
    ids = shared_ids(files)
    questions = sorted(id_ for id_ in ids if id_ in references)
    if len(rows) > 1 and not questions:
        with pytest.raises(InputError, match="no original question is answered by every one"):
            share(rows, references)
        return
    if not rows:
        return
    shared = share(rows, references)
    expected = []
    for index, question in enumerate(questions):
        group = [question, *sorted(id_ for id_ in ids if id_.startswith(f"{question}-"))]
        expected += [(index, a, b, a == question) for a, b in combinations(group, 2)]
    found = zip(shared.owner, shared.first, shared.second, shared.star, strict=True)
    assert list(found) == expected
    assert shared.questions == questions
    assert shared.references == {
        q: references[q] for q in questions if (references[q] or "").strip()
    }
    kinds = {a.id: a.type for answers in files.values() for a in answers}
    for (_, _, b, star), kind in zip(expected, shared.types, strict=True):
        assert kind == (kinds[b] if star else "")


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_pairs_do_not_depend_on_the_order_of_answers_or_references(seed):
    source = random.Random(seed)
    files, references = drawn(source, missing=0)
    expected = share(entrants(files), references)
    for answers in files.values():
        source.shuffle(answers)
    mixed = dict(source.sample(list(references.items()), len(references)))
    found = share(entrants(files), mixed)
    assert (found.questions, found.references) == (expected.questions, expected.references)
    assert (found.first, found.second) == (expected.first, expected.second)
    assert found.owner.tolist() == expected.owner.tolist()
    assert found.types.tolist() == expected.types.tolist()


def test_rows_keep_the_order_of_their_first_scored_answer_and_their_seeds():
    answers = [
        answer("late", "q0", "x", contexts="gold"),
        answer("B", "q0", "x"),
        answer("late", "q0", "x"),
        answer("late", "q0", "y", repeat=2),
        answer("only repeated", "q0", "y", repeat=1),
    ]
    rows = entrants({"7": answers, "8": [answer("B", "q0", "z")]})
    assert [row.name for row in rows] == ["B", "late"]
    assert {label: own["q0"].answer for label, own in rows[0].seeds.items()} == {"7": "x", "8": "z"}
    assert [a.answer for a in rows[1].repeats["7"]] == ["y"]
    assert rows[1].answered == {"q0"}


def test_what_one_seed_lacks_is_not_answered():
    files = {"0": [answer("B", "q0", "x"), answer("B", "q1", "x")], "1": [answer("B", "q1", "x")]}
    assert entrants(files)[0].answered == {"q1"}


def test_a_wording_asked_in_two_versions_is_shared_by_no_one():
    first = [answer("B", "q0", "x"), answer("B", "v0", "x", "q0"), answer("B", "v1", "x", "q0")]
    second = [a.model_copy(update={"model": "C"}) for a in first]
    second[1] = second[1].model_copy(update={"query": "another?"})
    shared = share(entrants({"0": first + second}), {"q0": None})
    assert (shared.reworded, shared.second) == (1, ["v1"])


def test_an_original_may_name_itself_and_a_variation_may_have_no_type():
    answers = [answer("B", "q0", "x", "q0"), answer("B", "v0", "x", "q0", type=None)]
    shared = share(entrants({"0": answers}), {"q0": "x"})
    assert (shared.questions, shared.types.tolist()) == (["q0"], ["untyped"])


def test_one_row_without_an_original_has_nothing_to_score():
    shared = share(entrants({"0": [answer("B", "v0", "x", "q0")]}), {"q0": "x"})
    assert (shared.questions, shared.first, len(shared.owner)) == ([], [], 0)


def test_a_question_that_the_references_do_not_know_is_named():
    with pytest.raises(InputError, match="question `q0` is not among the references"):
        share(entrants({"0": [answer("B", "q0", "x")]}), {"q1": "x"})


Q0 = answer("B", "q0", "yes")
BAD = {
    "none": ({"0": []}, "answers: there are none"),
    "twice": ({"0": [Q0, Q0]}, "model `B`, id `q0`, contexts `own`, repeat 0 occurs twice"),
    "seed": ({"3": [Q0], "5": [Q0, Q0]}, "answers of seed `5`: model `B`, id `q0`"),
    "variation": ({"0": [answer("B", "v", "x", "q9")]}, "question `q9` is not among the ref"),
    "original": ({"0": [answer("B", "q9", "x")]}, "add it there, with a null answer"),
    "owner": (
        {"0": [Q0, answer("B", "v", "a", "q0"), answer("C", "v", "a", "q1")]},
        "id `v` is a wording of `q0` of type `semantic` .* and a wording of `q1`",
    ),
    "type": (
        {"0": [answer("B", "v", "a", "q0"), answer("C", "v", "a", "q0", type="i_we")]},
        "of type `semantic` .* of type `i_we`",
    ),
    "query": (
        {"0": [Q0], "1": [answer("B", "q0", "yes", query="x" * 50)]},
        r"answers of seed `1`: id `q0` .*\(`q0\?`\) .*\(`x{39}…`\) in another",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answers_are_named(name):
    files, message = BAD[name]
    with pytest.raises(InputError, match=message):
        check_answers(files, {"q0": "yes", "q1": None})


def test_the_same_key_in_two_seeds_is_no_repetition():
    check_answers({"0": [Q0], "1": [Q0]}, {"q0": None})

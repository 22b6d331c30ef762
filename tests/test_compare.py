"""Two rows compared: the numbers against plain loops, the claims against planted effects."""

import random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_aggregate import SCORES
from test_answers import SEEDS, answer, drawn

from accord.errors import InputError
from accord.evaluate.answers import Entrant, entrants
from accord.evaluate.compare import compare, sentence
from accord.evaluate.scoring import choose
from accord.evaluate.statistics import holm

PLAIN = choose((), ("em",))


def entrant(name, seeds):
    """A row of answers; `seeds`: label -> answers."""
    return Entrant(name, {label: {a.id: a for a in own} for label, own in seeds.items()})


def agreeing(model, questions, rate, source, variations=3):
    """Answers of which a variation repeats its original's with chance `rate`."""
    made = []
    for i in range(questions):
        made.append(answer(model, f"q{i}", "pay"))
        for v in range(variations):
            said = "pay" if source.random() < rate else "never"
            made.append(answer(model, f"q{i}.{v}", said, f"q{i}"))
    return made


def entries(found, path=()):
    """(path, entry) of every difference."""
    for name, value in found.items():
        if isinstance(value, dict) and "difference" in value:
            yield (*path, name), value
        elif isinstance(value, dict):
            yield from entries(value, (*path, name))


def both(files):
    """Two rows of random answers in which some queries differ between the rows."""
    rows = entrants(files)
    assume(len(rows) == 2)
    a, b = rows
    other = {
        label: {
            id_: x.model_copy(update={"query": "other?"}) if sum(map(ord, id_)) % 7 == 1 else x
            for id_, x in own.items()
        }
        for label, own in b.seeds.items()
    }
    return a, Entrant(b.name, other)


def common_ids(a, b):
    """(ids answered by both under every seed, those of them asked in the same words)."""
    every = [own for row in (a, b) for own in row.seeds.values()]
    ids = set.intersection(*(set(own) for own in every))
    return ids, {i for i in ids if len({own[i].query for own in every}) == 1}


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_differences_are_those_of_plain_loops_over_common_pairs(seed):
    source = random.Random(seed)
    files, references = drawn(source)
    a, b = rows = both(files)
    ids, kept = common_ids(a, b)
    questions = kept & set(references)
    assume(questions)
    found = compare(a, b, references, choose((), ("em", "rs", "picky")), resamples=20)
    kinds = {i: next(iter(a.seeds.values()))[i].type for i in kept}
    pairs = [(i.split("-")[0], i) for i in sorted(kept - questions) if i.split("-")[0] in questions]
    for metric, score in SCORES.items():
        scored = {}
        for q, i in pairs:
            values = [
                [score(own[q].answer, own[i].answer) for own in row.seeds.values()] for row in rows
            ]
            if not np.isnan(np.concatenate(values)).any():
                scored[q, i] = [np.mean(v) for v in values]
        if not scored:
            assert metric not in found
            continue
        parts = {(): scored}
        for kind in {kinds[i] for _, i in scored}:
            parts["by_type", kind] = {p: v for p, v in scored.items() if kinds[p[1]] == kind}
        for path, own in parts.items():
            entry = found
            for step in (*path, metric):
                entry = entry[step]
            first, second = np.mean(list(own.values()), axis=0)
            shown = [entry["a"], entry["b"], entry["difference"]]
            assert shown == pytest.approx([first, second, first - second], abs=1e-12)
            assert (entry["n"], entry["pairs"]) == (len({q for q, _ in own}), len(own))
    assert (found["questions"], found["pairs"]) == (len(questions), len(pairs))
    every = {i for row in rows for own in row.seeds.values() for i in own}
    assert found["left_out"] == {
        "answered_by_one": len(every - ids),
        "asked_in_other_words": len(ids - kept),
        "without_original": len(kept) - len(questions) - len(pairs),
    }


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_every_claim_is_earned(seed):
    source = random.Random(seed)
    rows = [
        entrant(
            name,
            {
                str(label): agreeing(name, 12, source.random(), source)
                for label in range(source.randint(1, 2))
            },
        )
        for name in "AB"
    ]
    references = {f"q{i}": "pay" for i in range(12)}
    chosen = choose(("rouge_l", "bleu"), ("em", "rs"))
    found = compare(*rows, references, chosen, trained=["how_to_do"], resamples=100)
    tested = {path: e for path, e in entries(found) if path[0] not in {"group", "worst"}}
    assert {path[0] for path in tested} == {
        "rouge_l", "bleu", "em", "rs", "rs_area", "by_type", "unseen"
    }  # fmt: skip
    assert found["tests"] == len(tested)
    adjusted = holm([e["p"] for e in tested.values()])
    for entry, p in zip(tested.values(), adjusted, strict=True):
        assert entry["p_holm"] == pytest.approx(p)
        low, high = entry["ci"]
        assert low <= entry["difference"] <= high
        if entry["claim"]:
            assert p < 0.05
            assert not low <= 0 <= high
            assert entry["claim"] == ("better" if entry["difference"] > 0 else "worse")
    for path, entry in entries(found):
        if path[0] in {"group", "worst"}:
            assert not {"p", "p_holm", "claim", "detectable"} & set(entry)


def test_a_planted_effect_is_claimed_and_turns_around_with_the_rows():
    source = random.Random(1)
    a = entrant("A", {"0": agreeing("A", 60, 0.9, source)})
    b = entrant("B", {"0": agreeing("B", 60, 0.4, source)})
    references = dict.fromkeys(f"q{i}" for i in range(60))
    found, back = (compare(*rows, references, PLAIN) for rows in ((a, b), (b, a)))
    assert (found["em"]["claim"], back["em"]["claim"]) == ("better", "worse")
    assert found["em"]["difference"] == pytest.approx(-back["em"]["difference"])
    assert found["em"]["ci"] == pytest.approx([-end for end in reversed(back["em"]["ci"])])
    assert found["em"]["ci"][0] <= 0.5 <= found["em"]["ci"][1]
    size, (low, high) = found["em"]["difference"], found["em"]["ci"]
    assert found["sentence"] == (
        f"On 60 questions, after Holm over 2 tests: `A` is higher than `B` in EM by {size:.3f} "
        f"[{low:.3f}, {high:.3f}]."
    )
    assert f"`B` is lower than `A` in EM by {size:.3f} [{low:.3f}, {high:.3f}]" in back["sentence"]


def test_one_seed_of_the_other_sign_forbids_the_claim():
    source = random.Random(2)
    far, near = (agreeing("A", 60, rate, source) for rate in (1.0, 0.3))
    b = entrant("B", {label: agreeing("B", 60, 0.5, random.Random(3)) for label in "01"})
    references = dict.fromkeys(f"q{i}" for i in range(60))
    mixed = compare(entrant("A", {"0": far, "1": near}), b, references, PLAIN)["em"]
    assert mixed["p_holm"] < 0.05
    assert mixed["ci"][0] > 0
    assert mixed["claim"] is None
    assert compare(entrant("A", {"0": far}), b, references, PLAIN)["em"]["claim"] == "better"
    # With other labels every seed of one is set against every seed of the other.
    crossed = compare(entrant("A", {"5": far, "6": near}), b, references, PLAIN)["em"]
    assert crossed["claim"] is None


def test_the_same_answers_leave_no_doubt():
    source = random.Random(0)
    own = agreeing("A", 30, 0.5, source)
    a, b = entrant("A", {"0": own}), entrant("B", {"0": own})
    found = compare(a, b, dict.fromkeys((f"q{i}" for i in range(30)), "pay"), choose())
    seen = list(entries(found))
    assert {path[-1] for path, _ in seen} >= {"rouge_l", "bleu", "em", "rs"}
    for path, entry in seen:
        assert (entry["difference"], entry["ci"]) == (0, [0, 0]), path
        assert entry.get("p_holm", 1) == 1
        assert entry.get("claim") is entry.get("detectable") is None


def test_equal_scores_of_other_answers_leave_doubt():
    """Ten agreements each, of other words: the rows may differ on questions not seen."""
    a = entrant("A", {"0": agreeing("A", 10, 1.0, random.Random(0))})
    other = [x.model_copy(update={"answer": "yes"}) for x in a.seeds["0"].values()]
    entry = compare(a, entrant("B", {"0": other}), dict.fromkeys(f"q{i}" for i in range(10)), PLAIN)
    low, high = entry["em"]["ci"]
    assert low == pytest.approx(-high)
    assert high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_a_seed_copied_more_often_is_not_the_same():
    source = random.Random(5)
    x, y = (agreeing("A", 10, rate, source) for rate in (0.9, 0.2))
    a, b = entrant("A", dict(zip("012", (x, x, y)))), entrant("B", dict(zip("012", (x, y, y))))  # noqa: B905
    entry = compare(a, b, dict.fromkeys(f"q{i}" for i in range(10)), PLAIN)["em"]
    assert entry["difference"] > 0
    assert entry["ci"] != [0, 0]


def test_a_true_null_is_seldom_claimed():
    """300 comparisons of two models of the same rates; at most 5 % and 4 standard errors."""
    source = random.Random(9)
    claims = 0
    for seed in range(300):
        rows = []
        for name in "AB":
            rows.append(entrant(name, {"0": agreeing(name, 20, 0.6, source, variations=2)}))
        references = dict.fromkeys(f"q{i}" for i in range(20))
        found = compare(*rows, references, PLAIN, resamples=100, seed=seed)
        claims += any(e.get("claim") for _, e in entries(found))
    assert claims / 300 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 300)


def test_a_small_sample_tells_what_it_could_not_see():
    source = random.Random(3)
    rows = [entrant(n, {"0": agreeing(n, 12, 0.5, source)}) for n in "AB"]
    found = compare(*rows, dict.fromkeys(f"q{i}" for i in range(12)), PLAIN)
    size = found["em"]["detectable"]
    assert found["sentence"] == (
        "On 12 questions, after Holm over 2 tests: no difference between `A` and `B` can be "
        f"claimed in EM (below {size:.3f} it could not be seen)."
    )


def entry_of(claim, difference=0.1, detectable=None):
    ends = [difference - 0.05, difference + 0.05]
    return {"claim": claim, "difference": difference, "ci": ends, "detectable": detectable}


def test_sentence_tells_what_is_better_worse_and_unknown():
    found = {
        "em": entry_of("better"),
        "rs": entry_of("worse", -0.2),
        "bs": entry_of(None, detectable=0.2),
        "picky": entry_of(None),
        "rs_area": entry_of("better"),
        "by_type": {"semantic": {"em": entry_of("better")}},
        "questions": 1200,
        "tests": 7,
    }
    assert sentence(found, "A", "B") == (
        "On 1,200 questions, after Holm over 7 tests: `A` is higher than `B` in EM by 0.100 "
        "[0.050, 0.150]; `A` is lower than `B` in RS by 0.200 [0.150, 0.250]; no difference can be "
        "claimed in BS (below 0.200 it could not be seen), picky."
    )
    found = {"em": entry_of(None), "by_type": found["by_type"], "questions": 9, "tests": 2}
    assert sentence(found, "A", "B") == (
        "On 9 questions, after Holm over 2 tests: no difference between `A` and `B` can be claimed "
        "in EM; though some can for semantic alone."
    )


def test_sentence_where_nothing_was_scored():
    rows = [entrant(n, {"0": agreeing(n, 3, 0.5, random.Random(0))}) for n in "AB"]
    found = compare(*rows, dict.fromkeys(["q0", "q1", "q2"]), choose((), ("silent",)))
    assert found["sentence"].endswith("after Holm over 0 tests: nothing could be compared.")


def test_one_question_has_no_interval_and_no_claim():
    rows = [
        entrant(n, {"0": agreeing(n, 1, rate, random.Random(0))})
        for n, rate in zip("AB", (1, 0), strict=True)
    ]
    entry = compare(*rows, {"q0": None}, PLAIN)["em"]
    assert entry["difference"] == 1
    assert entry["ci"] is entry["claim"] is entry["detectable"] is None


@pytest.mark.parametrize(
    ("ids", "references", "message"),
    [
        (("q0", "q1"), {"q0": None, "q1": None}, "every one of the models `A`, `B`"),
        (("q0", "q0"), {"q1": None}, "question `q0` is not among the references"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(ids, references, message):
    rows = [entrant(n, {"0": [answer(n, i, "x")]}) for n, i in zip("AB", ids, strict=True)]
    with pytest.raises(InputError, match=message):
        compare(*rows, references, PLAIN)


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(source):
    own = {n: agreeing(n, 15, 0.5, random.Random(ord(n))) for n in "AB"}
    references = dict.fromkeys(f"q{i}" for i in range(15))
    expected = compare(*(entrant(n, {"0": own[n]}) for n in "AB"), references, PLAIN, resamples=50)
    for answers in own.values():
        source.shuffle(answers)
    found = compare(*(entrant(n, {"0": own[n]}) for n in "AB"), references, PLAIN, resamples=50)
    assert found == expected

"""Where inconsistency comes from: by hand, against plain loops, and where little is known."""

import json
import math
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from test_aggregate import SCORES
from test_answers import PASSAGES, SEEDS, TYPES, WORDS, answer, blur, data

from accord.evaluate.attribution import NOTES
from accord.evaluate.observed import Kind, standardise
from accord.evaluate.ratios import share
from accord.evaluate.scoring import Resources
from accord.evaluate.stage import evaluate
from accord.rankings import jaccard, rbo, same_first, same_set

RANKINGS = {"jaccard": jaccard, "rbo": rbo, "same_first": same_first, "same_set": same_set}


def attributed(answers, references, model="B", **options):
    settings = {"resamples": 60, "accuracy": (), "consistency": ("em",), **options}
    return evaluate(answers, references, **settings)["models"][model]["attribution"]


def told(rows, **more):
    """Answers of model B from (id, own, with the original's passages, its kind or null)."""
    answers = []
    for id_, own, fixed, kind in rows:
        original = id_.split(".")[0] if kind else None
        extra = {"type": kind} if kind else {}
        answers.append(answer("B", id_, own, original, **extra, **more.get(id_, {})))
        if fixed is not None:
            answers.append(answer("B", id_, fixed, original, contexts="original", **extra))
    return answers


# Five pairs of four questions. End to end 1 agrees; with the original's passages 3 do.
BY_HAND = [
    ("q0", "a", None, None),
    ("q0.0", "a", "a", "how_to_do"),
    ("q0.1", "b", "a", "semantic"),
    ("q1", "c", None, None),
    ("q1.0", "d", "c", "semantic"),
    ("q2", "e", None, None),
    ("q2.0", "f", "g", "semantic"),
    ("q3", "h", None, None),
    ("q3.0", "i", "j", "how_to_do"),
]
FOUR = dict.fromkeys(["q0", "q1", "q2", "q3"])


def test_by_hand():
    found = attributed(told(BY_HAND), FOUR)
    em = found["metrics"]["em"]
    assert (found["how"], found["note"], found["left_out"]) == ("fixed", NOTES["fixed"], 0)
    assert (em["e2e"], em["gen"], em["difference"]) == pytest.approx((1 / 5, 3 / 5, 2 / 5))
    assert (em["retriever_share"], em["generator_share"]) == pytest.approx((1 / 2, 1 / 2))
    assert (em["n"], em["pairs"]) == (4, 5)
    # Two of four questions gain, none loses: all 16 swaps of labels, 4 of them as extreme.
    assert em["p"] == pytest.approx(1 / 2)
    assert em["p_holm"] == pytest.approx(1)
    assert "noise_share" not in em
    assert found["retriever"] is None  # no passages were named
    by_type = found["by_type"]
    assert by_type["semantic"]["metrics"]["em"]["retriever_share"] == pytest.approx(2 / 3)
    assert by_type["how_to_do"]["metrics"]["em"]["retriever_share"] == 0
    assert by_type["how_to_do"]["metrics"]["em"]["pairs"] == 2


def test_noise_by_hand():
    # The original of q0 repeats itself, that of q1 does not; q2 and q3 were not asked again.
    answers = told(BY_HAND)
    answers += [answer("B", "q0", "a", repeat=1), answer("B", "q1", "x", repeat=1)]
    em = attributed(answers, FOUR)["metrics"]["em"]
    # Three pairs have a floor: 1, 1, 0; end to end 1 of these three agrees.
    assert em["floor"] == pytest.approx(2 / 3)
    assert em["noise_share"] == pytest.approx((1 / 3) / (2 / 3))
    # The variation of q1 with the original's passages, again: the same, so half of its pair.
    same = {"contexts": "original", "repeat": 1, "type": "semantic"}
    em = attributed([*answers, answer("B", "q1.0", "c", "q1", **same)], FOUR)["metrics"]["em"]
    assert em["floor"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    # Again with its own passages it is not asked for where the other is known.
    other = answer("B", "q1.0", "y", "q1", repeat=1)
    known = [*answers, answer("B", "q1.0", "c", "q1", **same), other]
    assert attributed(known, FOUR)["metrics"]["em"]["floor"] == em["floor"]
    em = attributed([*answers, other], FOUR)["metrics"]["em"]
    assert em["floor"] == pytest.approx(2 / 3)


def test_passages_and_hits_by_hand():
    ranked = {"q0": "abc", "q0.0": "abc", "q0.1": "bad", "q1": "ab", "q1.0": "cd", "q2.0": "a"}
    more = {id_: {"passages": tuple(ids)} for id_, ids in ranked.items()}
    found = attributed(told(BY_HAND, **more), FOUR, gold={"q0": ["c"], "q1": ["d"], "q2": ()})
    retriever = found["retriever"]
    assert (retriever["pairs"], retriever["n"]) == (4, 3)  # neither wording of q3 has any
    assert retriever["jaccard"] == pytest.approx((1 + 2 / 4 + 0 + 0) / 4)
    assert retriever["same_first"] == pytest.approx(1 / 4)
    assert retriever["same_set"] == pytest.approx(1 / 4)
    assert retriever["rbo"] == pytest.approx((1 + rbo("abc", "bad")) / 4)
    assert retriever["hit_original"] == pytest.approx(2 / 3)  # of the pairs of q0 and q1
    assert retriever["hit_variation"] == pytest.approx(2 / 3)
    assert retriever["hits_kept"] == pytest.approx(1 / 2)
    assert found["by_type"]["how_to_do"]["retriever"]["hits_kept"] == 1
    without = attributed(told(BY_HAND, **more), FOUR)["retriever"]
    assert "hit_original" not in without


def test_negative_shares_stay():
    rows = [(f"q{i}", "a", None, None) for i in range(6)]
    rows += [(f"q{i}.0", "a" if i else "b", "b" if i < 3 else "a", "semantic") for i in range(6)]
    em = attributed(told(rows), dict.fromkeys(f"q{i}" for i in range(6)))["metrics"]["em"]
    assert em["retriever_share"] == pytest.approx(-2)
    assert em["generator_share"] == pytest.approx(3)
    assert em["difference"] == pytest.approx(-1 / 3)


@pytest.mark.parametrize("fixed", ["a", "b"])
def test_nothing_to_explain(fixed):
    rows = [(f"q{i}", "a", None, None) for i in range(6)]
    rows += [(f"q{i}.0", "a", fixed, "semantic") for i in range(6)]
    em = attributed(told(rows), dict.fromkeys(f"q{i}" for i in range(6)))["metrics"]["em"]
    shares = [name for name in em if name.endswith("share")]
    assert shares == ["retriever_share", "generator_share"]
    assert all(em[name] is em["ci"][name] is None for name in shares)
    assert em["gen"] == (fixed == "a")


def test_a_share_of_all_or_nothing_claims_no_certainty():
    rows = [(f"q{i}", "a", None, None) for i in range(20)]
    rows += [(f"q{i}.0", "b" if i < 10 else "a", "a", "semantic") for i in range(20)]
    em = attributed(told(rows), dict.fromkeys(f"q{i}" for i in range(20)))["metrics"]["em"]
    assert em["retriever_share"] == 1
    low, high = em["ci"]["retriever_share"]
    assert (low, high) == (pytest.approx(1 - (1 - 0.025 ** (1 / 10)) * 2), 1)
    assert em["ci"]["generator_share"] == pytest.approx([0, 1 - low])


# --- Where passages were not held fixed


def test_observed_shares_are_standardised_over_kinds():
    # Kind (passages kept, agrees): semantic mostly changes, how_to_do mostly keeps.
    plan = [("how_to_do", 1, 1)] * 6 + [("how_to_do", 0, 0)] * 2
    plan += [("semantic", 1, 1), ("semantic", 1, 0)] + [("semantic", 0, 0)] * 6
    answers = []
    for i, (kind, kept, agrees) in enumerate(plan):
        answers.append(answer("B", f"q{i}", "a", passages=("p", "r")))
        passages = ("p", "r") if kept else ("r", "p")
        text = "a" if agrees else "b"
        answers.append(answer("B", f"q{i}.0", text, f"q{i}", type=kind, passages=passages))
    references = {f"q{i}": None for i in range(16)}
    found = attributed(answers, references)
    em = found["metrics"]["em"]
    assert (found["how"], found["note"]) == ("observed", NOTES["observed"])
    assert (em["e2e"], em["gen"]) == pytest.approx((7 / 16, (8 * 1 + 8 * 1 / 2) / 16))
    assert em["retriever_share"] == pytest.approx((3 / 4 - 7 / 16) / (9 / 16))
    assert (em["pairs"], em["same_pairs"]) == (16, 8)
    assert not {"difference", "p"} & set(em)
    semantic = found["by_type"]["semantic"]["metrics"]["em"]
    assert (semantic["e2e"], semantic["gen"]) == pytest.approx((1 / 8, 1 / 2))
    assert found["retriever"]["same_set"] == 1
    # A kind that never kept its passages has nothing to be standardised with.
    never = [a.model_copy(update={"passages": ("x",)}) if a.type == "semantic" else a
             for a in answers]  # fmt: skip
    em = attributed(never, references)["metrics"]["em"]
    assert em["kinds_left_out"] == ["semantic"]
    assert (em["e2e"], em["gen"], em["pairs"]) == (6 / 8, 1, 8)
    changed = [a.model_copy(update={"passages": ("x",)}) if a.type else a for a in answers]
    found = attributed(changed, references)
    assert (found["how"], found["metrics"]) == ("observed", {})
    assert found["retriever"]["jaccard"] == 0


def test_without_passages_only_the_consistency_end_to_end_is_known():
    answers, references = data()
    row = evaluate(answers, references, resamples=20, consistency=("em", "rs"))["models"]["B"]
    assert row["attribution"]["how"] == "none"
    assert row["attribution"]["retriever"] is None
    assert row["attribution"]["metrics"]["rs"] == {
        "e2e": row["rs"], "n": 12, "pairs": 24, "ci": {"e2e": row["ci"]["rs"]}
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(1, 3), SEEDS)
def test_standardised_against_loops_and_a_numerical_derivative(n, kinds, seed):
    random_ = np.random.default_rng(seed)
    pairs = random_.integers(0, 4, (kinds, n)).astype(float)
    same = random_.binomial(pairs.astype(int), 0.6).astype(float)
    good_same = random_.binomial(same.astype(int), 0.7).astype(float)
    good = good_same + random_.binomial((pairs - same).astype(int), 0.3)
    assume((same.sum(axis=1) > 0).all())
    assume((pairs.sum(axis=0) > 0).sum() > 1)

    def estimates(weights):
        weights = np.asarray(weights)
        size = sum(float(weights @ pairs[k]) for k in range(kinds))
        gen = sum(
            float(weights @ pairs[k]) / size * float(weights @ good_same[k] / (weights @ same[k]))
            for k in range(kinds)
        )
        return gen, sum(float(weights @ good[k]) for k in range(kinds)) / size

    found = standardise(
        {str(k): Kind(good[k], pairs[k], good_same[k], same[k]) for k in range(kinds)}
    )
    assert (found.gen, found.e2e) == pytest.approx(estimates(np.ones(n)))
    if found.e2e < 1:
        ratio = (found.gen - found.e2e) / (1 - found.e2e)
        assert found.retriever.value == pytest.approx(ratio, abs=1e-9)
    step = 1e-5
    moved = np.array(
        [
            np.subtract(estimates(np.ones(n) + step * e), estimates(np.ones(n) - step * e))
            / (2 * step)
            for e in np.eye(n)
        ]
    )
    asked = int((pairs.sum(axis=0) > 0).sum())
    errors = np.sqrt((moved**2).sum(axis=0) * asked / (asked - 1))
    assert (found.gen_error, found.e2e_error) == pytest.approx(tuple(errors), abs=1e-6)


# --- The interval of a share


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 60), st.floats(0.05, 0.95), SEEDS)
def test_the_interval_is_what_a_t_test_does_not_reject(n, rate, seed):
    random_ = np.random.default_rng(seed)
    pairs = random_.integers(1, 5, n)
    wholes = random_.binomial(pairs, rate).astype(float)
    parts = wholes - random_.binomial(pairs, 0.3)
    missing, lowest = wholes.sum(), -1e9
    assume(missing > 0)
    found = share(parts, wholes, lowest)
    assert found.value == pytest.approx(parts.sum() / missing)
    bounded = stats.ttest_1samp(wholes, 0).pvalue < 0.05 if np.ptp(wholes) else True
    if np.abs(parts - found.value * wholes).max() < 1e-9:
        return
    assert (found.ends is not None) == bounded
    if found.ends is None:
        return
    low, high = found.ends
    assert low <= found.value <= high <= 1
    for end, limit in ((low, None), (high, 1.0)):
        p = stats.ttest_1samp(parts - end * wholes, 0).pvalue
        # The t quantile of the core is within 0.2 % from 3 degrees of freedom on.
        assert p == pytest.approx(0.05, abs=2e-3) or (end == limit and p > 0.05 - 2e-3)


def test_a_share_of_few_or_nothing():
    assert share(np.zeros(0), np.zeros(0), 0.0).number is None
    assert share(np.zeros(3), np.zeros(3), 0.0).number is None
    one = share(np.array([1.0]), np.array([2.0]), 0.0)
    assert (one.number, one.ends) == (0.5, None)
    # One or two inconsistent questions among many say nothing on where inconsistency comes from.
    for few in (1, 2, 3):
        wholes = np.array([1.0] * few + [0.0] * 47)
        for parts in (wholes, wholes / 2, np.eye(len(wholes))[0]):
            assert share(parts, wholes, -5.0).ends is None
    wholes = np.array([1.0] * 5 + [0.0] * 45)
    assert share(wholes / 2, wholes, -5.0).ends is not None


# --- Against plain loops


def drawn(source):
    """(files, references, gold): answers with passages held fixed in part, some asked again."""
    wordings = []
    for i in range(source.randint(1, 5)):
        wordings.append((f"q{i}", None, None))
        for v in range(source.choice((0, 1, 2, 3))):
            wordings.append((f"q{i}-{v}", f"q{i}", source.choice(TYPES)))
    said = {id_: " ".join(source.choices(WORDS, k=6)) for id_, original, _ in wordings
            if original is None}  # fmt: skip
    files = {str(s): [] for s in range(source.choice((1, 1, 2)))}
    asked = {"own": 1.0, "original": source.choice((0, 0.8, 1)), "gold": source.choice((0, 0.8))}
    repeated = source.choice((0, 0.4))
    for model, label in product("BC"[: source.randint(1, 2)], files):
        if model == "C" and source.random() < 0.5:
            asked = {**asked, "original": 0.0}
        for (id_, original, kind), contexts in product(wordings, asked):
            for repeat in range(3):
                if source.random() < (repeated if repeat else asked[contexts] - 0.04):
                    text = said[original or id_]
                    text = source.choice((text, text, blur(text, 0.2, source), "", "pay"))
                    made = answer(model, id_, text, original, type=kind, repeat=repeat)
                    changed = {"contexts": contexts, "passages": source.choice(PASSAGES)}
                    files[label].append(made.model_copy(update=changed))
    gold = {id_: source.choice(((), ("a",), ("c", "x"))) for id_ in said}
    return files, dict.fromkeys(said), gold


def held_by_loops(files, contexts):
    """(ids that every model with such answers has, the models); a model needs them in each seed."""
    found, models = {}, {}
    for label, answers in files.items():
        for a in answers:
            if a.contexts == "own" and not a.repeat:
                models.setdefault(a.model, set()).add(label)
            if a.contexts == contexts and not a.repeat:
                if contexts == "original" and a.original_id is None:
                    continue
                found.setdefault((a.model, label), set()).add(a.id)
    having = {m for m, labels in models.items() if all((m, label) in found for label in labels)}
    sets = [ids for (m, label), ids in found.items() if m in having and label in models[m]]
    return (set.intersection(*sets) if sets else set()), having


def shared_by_loops(files):
    found = {}
    for label, answers in files.items():
        for a in answers:
            if a.contexts == "own" and a.repeat == 0:
                found.setdefault((a.model, label), set()).add(a.id)
    return set.intersection(*found.values()) if found else set()


def loops(files, model, gold):
    """(kind or "", metric or name, number) -> list over seeds and pairs of (question, value)."""
    shared = shared_by_loops(files)
    fixed, having = held_by_loops(files, "original")
    golden, having_gold = held_by_loops(files, "gold")
    found = {}
    labels = [la for la, answers in files.items() if any(
        a.model == model and a.contexts == "own" and not a.repeat for a in answers)]  # fmt: skip
    fixed_pairs = {i for i in fixed & shared if i.split("-")[0] in shared}
    again_known = []
    for label in labels:
        of = {(a.contexts, a.id, a.repeat): a for a in files[label] if a.model == model}
        again_label = []
        for id_ in sorted(shared):
            original = id_.split("-")[0]
            if original == id_ or original not in shared:
                continue
            q, v = of["own", original, 0], of["own", id_, 0]

            def add(name, number, value, q=original, kind=v.type):
                if value == value:
                    for k in ("", kind):
                        found.setdefault((k, name, number), []).append((q, value))

            if q.passages or v.passages:
                for name, score in RANKINGS.items():
                    add(name, "", score(q.passages, v.passages))
                if gold[original]:
                    hits = [float(bool(set(gold[original]) & set(x.passages))) for x in (q, v)]
                    add("hit_original", "", hits[0])
                    add("hit_variation", "", hits[1])
                    if hits[0]:
                        add("hits_kept", "", hits[1])
            noise = [(q, of["own", original, r]) for r in (1, 2) if ("own", original, r) in of]
            held = [r for r in (1, 2) if ("original", id_, r) in of]
            if held and ("original", id_, 0) in of:
                noise += [(of["original", id_, 0], of["original", id_, r]) for r in held]
            else:
                noise += [(v, of["own", id_, r]) for r in (1, 2) if ("own", id_, r) in of]
            again_label += noise
            for metric, score in SCORES.items():
                e2e = score(q.answer, v.answer)
                if model in having and id_ in fixed_pairs:
                    gen = score(q.answer, of["original", id_, 0].answer)
                    if e2e == e2e and gen == gen:
                        add(metric, "e2e", e2e)
                        add(metric, "gen", gen)
                        floor = [score(x.answer, y.answer) for x, y in noise]
                        floor = [f for f in floor if f == f]
                        if floor:
                            add(metric, "floor", sum(floor) / len(floor))
                            add(metric, "floored", e2e)
                if model in having_gold and {id_, original} <= golden:
                    both = [of["gold", i, 0].answer for i in (original, id_)]
                    value = score(*both)
                    if e2e == e2e and value == value:
                        add(metric, "gold", value)
                        add(metric, "gold e2e", e2e)
        again_known.append(bool(again_label))
    is_fixed = model in having and bool(fixed_pairs)
    return found, is_fixed, all(again_known)


def mean(pairs):
    return math.fsum(value for _, value in pairs) / len(pairs)


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_every_number_is_that_of_plain_loops(seed):
    files, references, gold = drawn(random.Random(seed))
    shared = shared_by_loops(files)
    assume(shared & set(references))
    chosen = {"accuracy": (), "consistency": ("em", "rs", "picky"), "resamples": 20, "gold": gold}
    for model, row in evaluate(files, references, **chosen)["models"].items():
        found = row["attribution"]
        expected, is_fixed, again = loops(files, model, gold)
        assert (found["how"] == "fixed") == is_fixed
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        for kind in ("", *found.get("by_type", {})):
            part = found["by_type"][kind] if kind else found
            check_retriever(part["retriever"] or {}, expected, kind)
            check_gold(part.get("gold", {}), expected, kind)
            if is_fixed:
                check_metrics(part["metrics"], expected, kind, again)


def check_retriever(part, expected, kind):
    for name in (*RANKINGS, "hit_original", "hit_variation", "hits_kept"):
        values = expected.get((kind, name, ""))
        # Names that a seed has nothing on are left out, so more may be expected than is found.
        if name in part:
            assert part[name] == pytest.approx(mean(values))
    if (kind, "jaccard", "") in expected and part:
        assert part["n"] == len({q for q, _ in expected[kind, "jaccard", ""]})


def check_gold(part, expected, kind):
    assert set(part) == {m for k, m, number in expected if k == kind and number == "gold"}
    for metric, own in part.items():
        assert own["gold"] == pytest.approx(mean(expected[kind, metric, "gold"]))
        assert own["e2e"] == pytest.approx(mean(expected[kind, metric, "gold e2e"]))


def check_metrics(part, expected, kind, again):
    assert set(part) == {m for k, m, number in expected if k == kind and number == "gen"}
    for metric, own in part.items():
        e2e, gen = (mean(expected[kind, metric, number]) for number in ("e2e", "gen"))
        assert (own["e2e"], own["gen"]) == pytest.approx((e2e, gen))
        assert own["difference"] == pytest.approx(gen - e2e)
        if e2e < 1 - 1e-9:
            assert own["retriever_share"] == pytest.approx((gen - e2e) / (1 - e2e))
            assert own["generator_share"] == pytest.approx((1 - gen) / (1 - e2e))
        else:
            assert own["retriever_share"] is own["generator_share"] is None
        if again and (kind, metric, "floor") in expected:
            floor, base = (mean(expected[kind, metric, n]) for n in ("floor", "floored"))
            assert own["floor"] == pytest.approx(floor)
            if base < 1 - 1e-9:
                assert own["noise_share"] == pytest.approx((1 - floor) / (1 - base))
        else:
            assert "floor" not in own
        for name, ends in own["ci"].items():
            if ends is not None:
                assert ends[0] - 1e-9 <= own[name] <= ends[1] + 1e-9


# --- What else must hold


def full(seed=0, models=("B", "SFT"), questions=12):
    """`data` with passages, and every variation asked with its original's too."""
    answers, references = data(questions=questions, models=models, seed=seed)
    source = random.Random(seed)
    said = {(a.model, a.id): a for a in answers}
    more = []
    for a in answers:
        if a.original_id:
            text = blur(said[a.model, a.original_id].answer, 0.1, source)
            more.append(a.model_copy(update={"answer": text, "contexts": "original"}))
    ranked = [a.model_copy(update={"passages": source.choice(PASSAGES[1:])}) for a in answers]
    return [*ranked, *more], references


def test_shares_add_up_and_do_not_depend_on_company_or_order():
    answers, references = full()
    found = attributed(answers, references, consistency=("em", "rs"))
    for own in found["metrics"].values():
        assert own["retriever_share"] + own["generator_share"] == pytest.approx(1)
        low, high = own["ci"]["retriever_share"]
        assert own["ci"]["generator_share"] == pytest.approx([1 - high, 1 - low])
    alone = [a for a in answers if a.model == "B"]
    random.Random(1).shuffle(alone)
    assert attributed(alone, references, consistency=("em", "rs")) == found


def test_the_numbers_of_the_table_do_not_change():
    answers, references = full()
    own = [a for a in answers if a.contexts == "own"]
    with_, without = (evaluate(some, references, resamples=20) for some in (answers, own))
    for model, row in with_["models"].items():
        assert row.pop("attribution")["how"] == "fixed"
        assert without["models"][model].pop("attribution")["how"] == "observed"
    assert with_ == without


def test_rows_with_fixed_passages_share_their_pairs():
    answers, references = full()
    lacking = [a for a in answers if (a.model, a.id, a.contexts) != ("SFT", "q1.0", "original")]
    for model in ("B", "SFT"):
        found = attributed(lacking, references, model)
        assert (found["metrics"]["em"]["pairs"], found["left_out"]) == (23, 1)
    only_one = [a for a in answers if a.model == "B" or a.contexts == "own"]
    assert attributed(only_one, references, "B")["metrics"]["em"]["pairs"] == 24
    assert attributed(only_one, references, "SFT")["how"] == "observed"


def test_an_original_asked_with_its_own_passages_under_another_name_is_set_aside():
    answers, references = full(models=("B",))
    more = answer("B", "q0", "nonsense", contexts="original")
    scores = evaluate([*answers, more], references, resamples=20)
    plain = evaluate(answers, references, resamples=20)
    assert scores["models"] == plain["models"]
    assert scores["signatures"]["set_aside"]["answers"] == 1


def test_several_seeds_are_averaged():
    first, references = full(seed=0, models=("B",))
    second = [a.model_copy(update={"answer": b.answer, "passages": b.passages})
              for a, b in zip(first, full(seed=1, models=("B",))[0], strict=True)]  # fmt: skip
    both = attributed({"0": first, "1": second}, references)
    alone = [attributed(own, references) for own in (first, second)]
    for part, number in (("metrics", "e2e"), ("metrics", "gen")):
        values = [a[part]["em"][number] for a in alone]
        assert both[part]["em"][number] == pytest.approx(np.mean(values))
    em = both["metrics"]["em"]
    assert em["retriever_share"] == pytest.approx((em["gen"] - em["e2e"]) / (1 - em["e2e"]))
    values = [a["retriever"]["rbo"] for a in alone]
    assert both["retriever"]["rbo"] == pytest.approx(np.mean(values))
    assert both["metrics"]["em"]["n"] == 12


def test_each_distinct_answer_is_encoded_once():
    batches = []

    def watched(batch):
        batches.append(list(batch))
        return np.array([[len(t), 1.0] for t in batch])

    answers, references = full()
    found = attributed(
        answers, references, consistency=("bs",), resources=Resources(encode=watched)
    )
    assert found["metrics"]["bs"]["pairs"] == 24
    assert batches == [sorted({a.answer for a in answers})]

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from accord.errors import InputError
from accord.evaluate.calibrate import calibrate, render


def pairs(seed=0, groups=40, most=6, steps=50):
    """Scores in [0, 1], labels and groups of pairs that are alike within a group."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), random.integers(1, most + 1, groups))
    level = random.normal(0, 1, groups)[group]
    odds = level + random.normal(0, 2, len(group))
    scores = np.round(1 / (1 + np.exp(-odds - random.normal(0, 1, len(group)))) * steps) / steps
    return scores, odds > 0, [f"g{number}" for number in group]


def run(scores, labels, groups=None, lengths=None, **settings):
    """`calibrate`, by default with pairs that stand alone, of 5 tokens, and few resamples."""
    return calibrate(
        np.asarray(scores, dtype=float),
        np.asarray(labels, dtype=bool),
        [None] * len(scores) if groups is None else groups,
        [5] * len(scores) if lengths is None else lengths,
        **{"resamples": 50, **settings},
    )


def slow(scores, labels, target):
    """The threshold by definition: try every observed score, from the lowest."""
    for value in sorted(set(scores)):
        above = [bool(label) for score, label in zip(scores, labels, strict=True) if score > value]
        if above and sum(above) / len(above) >= target:
            return value, sum(above) / len(above), sum(above) / sum(map(bool, labels))
    return None, None, None


@st.composite
def judged(draw):
    """Scores with ties, and labels of both kinds."""
    size = draw(st.integers(2, 40))
    scores = draw(st.lists(st.integers(0, 12), min_size=size, max_size=size))
    labels = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    assume(0 < sum(labels) < size)
    return np.array(scores) / 12, np.array(labels)


targets = st.floats(0.05, 1)


@settings(max_examples=60, deadline=None)
@given(judged(), targets)
def test_threshold_is_the_smallest_at_the_target(data, target):
    scores, labels = data
    found = run(scores, labels, precision=target, resamples=2)
    expected = threshold, _, _ = slow(scores, labels, target)
    assert (found["threshold"], found["precision"], found["recall"]) == expected
    if threshold is None:
        assert found["why"]
    else:
        assert 0 <= found["threshold"] < 1
        assert found["accepted"] == (scores > threshold).sum()
        between = (found["threshold"] + found["until"]) / 2
        np.testing.assert_array_equal(scores > threshold, scores > between)
        assert (scores >= found["until"]).sum() == found["accepted"]


@settings(max_examples=30, deadline=None)
@given(judged(), targets, targets)
def test_recall_does_not_grow_with_the_target(data, first, second):
    low, high = (
        run(*data, precision=t, resamples=2)["recall"] or 0 for t in sorted((first, second))
    )
    assert low >= high


@settings(max_examples=60, deadline=None)
@given(judged())
def test_area_is_that_of_mann_whitney(data):
    scores, labels = data
    found = run(scores, labels, resamples=2)["auc"]
    expected = stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert found == pytest.approx(expected / (labels.sum() * (~labels).sum()), abs=1e-12)
    assert run(-scores, labels, resamples=2)["auc"] == pytest.approx(1 - found, abs=1e-12)
    assert run(-scores, ~labels, resamples=2)["auc"] == pytest.approx(found, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_order_does_not_matter(random, named):
    scores, labels, groups = pairs(groups=20)
    names = [g if named or g < "g15" else None for g in groups]
    lengths = [5 + 10 * (number % 7) for number in range(len(scores))]
    order = list(range(len(scores)))
    random.shuffle(order)
    assert run(
        scores[order], labels[order], [names[i] for i in order], [lengths[i] for i in order]
    ) == run(scores, labels, names, lengths)


@pytest.mark.parametrize(
    "transform", [lambda s: s**3, np.exp, lambda s: 10 * s - 5, lambda s: np.log(s + 0.01)]
)
def test_increasing_transforms_carry_the_thresholds_along(transform):
    scores, labels, groups = pairs()
    plain, moved = run(scores, labels, groups), run(transform(scores), labels, groups)
    carried = transform(np.array([plain["threshold"], plain["until"], *plain["ci"]["threshold"]]))
    assert [moved["threshold"], moved["until"], *moved["ci"]["threshold"]] == list(carried)
    for key in ("precision", "precision_unseen", "recall", "auc", "accepted"):
        assert moved[key] == plain[key]
    for key in ("precision", "recall", "auc"):
        assert moved["ci"][key] == plain["ci"][key]


def test_unseen_precision_is_that_of_the_groups_not_drawn():
    scores, labels, groups = pairs(groups=15)
    names = np.array(groups)
    random, seen = np.random.default_rng(7), []
    for _ in range(3000):
        drawn = random.choice(np.unique(names), 15)
        kept = np.concatenate([np.flatnonzero(names == name) for name in drawn])
        threshold, _, _ = slow(scores[kept], labels[kept], 0.9)
        left = ~np.isin(names, drawn) & (scores > (np.inf if threshold is None else threshold))
        if left.any():
            seen.append(labels[left].mean())
    found = run(scores, labels, groups, resamples=3000)
    error = np.std(seen) * math.sqrt(2 / 3000)
    assert found["precision_unseen"] == pytest.approx(np.mean(seen), abs=4 * error)


def test_a_score_that_knows_nothing_is_seen_through():
    naive, unseen = [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        found = run(random.random(100), random.random(100) < 0.6, resamples=100)
        if found["threshold"] is not None:
            naive.append(found["precision"])
            unseen.append(found["precision_unseen"])
    assert len(naive) > 20
    assert min(naive) >= 0.9
    # The truth is .6 at any threshold; the few pairs at the top may go unseen, but not flatter.
    assert np.mean(unseen) < 0.6 + 2 * np.std(unseen) / math.sqrt(len(unseen))


def test_pairs_of_one_group_say_less_than_pairs_that_stand_alone():
    scores, labels, _ = pairs(groups=200, most=1)
    copies = 5
    alone = run(np.repeat(scores, copies), np.repeat(labels, copies), resamples=300)
    groups = [str(number // copies) for number in range(len(scores) * copies)]
    grouped = run(np.repeat(scores, copies), np.repeat(labels, copies), groups, resamples=300)
    once = run(scores, labels, [str(number) for number in range(len(scores))], resamples=300)
    widths = [np.ptp(found["ci"]["recall"]) for found in (alone, grouped, once)]
    assert widths[1] > 1.8 * widths[0]
    # Copies of a pair in its group add nothing.
    for key in ("threshold", "precision", "precision_unseen", "recall", "auc"):
        assert grouped[key] == once[key]
    assert grouped["ci"] == once["ci"]


def test_intervals_hold_their_estimates_and_narrow_with_more_groups():
    few, many = (run(*pairs(groups=g), resamples=300) for g in (30, 600))
    for found in (few, many):
        for key in ("threshold", "precision", "recall", "auc"):
            low, high = found["ci"][key]
            assert low <= found[key] <= high
    for key in ("threshold", "precision", "recall", "auc"):
        assert np.ptp(many["ci"][key]) < 0.7 * np.ptp(few["ci"][key])


def test_perfect_precision_is_not_certain():
    scores, labels = [0.1] * 15 + [0.9] * 12, [False] * 15 + [True] * 12
    found = run(scores, labels)
    assert (found["threshold"], found["precision"], found["precision_unseen"]) == (0.1, 1.0, 1.0)
    low, high = found["ci"]["precision"]
    assert high == 1
    # The exact binomial limit with the 12 groups above the threshold, not with all 27.
    assert low == pytest.approx(0.025 ** (1 / 12), abs=0.01)


def test_lengths_have_thresholds_of_their_own():
    scores, labels, groups = pairs(groups=100)
    lengths = np.random.default_rng(0).choice([1, 10, 11, 30, 31, 100], len(scores))
    # Two pairs longer than all others; one more is not scored.
    lengths[:3], scores[2] = 101, np.nan
    found = run(scores, labels, groups, list(lengths))
    for name, low, high in (("up to 10", 0, 10), ("11 to 30", 11, 30), ("31 to 100", 31, 100)):
        own = (lengths >= low) & (lengths <= high)
        alone = run(
            scores[own], labels[own], [g for g, keep in zip(groups, own, strict=True) if keep]
        )
        bin_ = found["by_length"][name]
        assert bin_["n"] == own.sum()
        assert {key: alone[key] for key in bin_} == bin_
    assert found["by_length"]["above 100"]["n"] == 2
    assert found["by_length"]["above 100"]["threshold"] is None
    assert "2 scored pairs" in found["by_length"]["above 100"]["why"]
    assert found["unscored"] == 1
    assert found["n"] == len(scores) - 1


def test_a_length_of_one_kind_says_so():
    scores, labels, groups = pairs(groups=60)
    lengths = np.where(labels, 5, 50)
    bins = run(scores, labels, groups, list(lengths))["by_length"]
    assert bins["up to 10"]["why"] == "all pairs are equivalent"
    assert bins["31 to 100"]["why"] == "all pairs are not equivalent"
    assert bins["up to 10"]["threshold"] is None


def test_unscored_pairs_change_nothing_but_their_count():
    scores, labels, groups = pairs()
    more = run([*scores, np.nan, np.nan], [*labels, True, False], [*groups, "g0", "new"])
    less = run(scores, labels, groups)
    assert (more.pop("unscored"), less.pop("unscored")) == (2, 0)
    assert more == less


def test_a_target_out_of_reach_names_the_best():
    found = run([0.1, 0.2, 0.3, 0.4], [True, True, False, False])
    assert found["threshold"] is None
    assert found["best"]["precision"] == pytest.approx(1 / 3)
    assert found["best"]["threshold"] == 0.1
    assert "0.333" in found["why"]
    assert "0.9" in found["why"]


def test_identical_scores_have_no_threshold():
    found = run([0.5] * 30, [True, False] * 15)
    assert (found["threshold"], found["auc"]) == (None, 0.5)
    assert found["why"] == "all 30 scores are 0.5"


def test_one_group_has_no_intervals():
    found = run([0.1, 0.2, 0.8, 0.9], [False, False, True, True], ["q"] * 4)
    assert (found["threshold"], found["precision"], found["groups"]) == (0.2, 1.0, 1)
    assert set(found["ci"].values()) == {None}
    assert found["precision_unseen"] is None


@pytest.mark.parametrize(
    ("scores", "labels", "settings", "message"),
    [
        ([], [], {}, "labelled pairs: there are none"),
        ([np.nan] * 3, [True, False, True], {}, "none of the 3 labelled pairs"),
        ([0.1, np.inf, -np.inf], [True, False, True], {}, "pair 2 has inf"),
        ([0.1, 0.2, np.nan], [True, True, False], {}, "all 2 scored are equivalent"),
        ([0.1, 0.2], [False, False], {}, "all 2 scored are not equivalent"),
        ([0.1, 0.2], [False, True], {"precision": 0.0}, "precision: found 0.0"),
        ([0.1, 0.2], [False, True], {"precision": 1.5}, "precision: found 1.5"),
        ([0.1, 0.2], [False, True], {"precision": math.nan}, "precision: found nan"),
        ([0.1, 0.2], [False, True], {"resamples": 1}, "resamples: found 1"),
    ],
)
def test_bad_input_is_named(scores, labels, settings, message):
    with pytest.raises(InputError, match=message):
        run(scores, labels, **settings)


@pytest.mark.parametrize("groups", [1, 2, 10, 60])
@pytest.mark.parametrize("target", [0.2, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_outcome_is_json_and_can_be_shown(groups, target, seed):
    scores, labels, names = pairs(seed, groups, most=9, steps=5)
    both = np.append(labels, [True, False])
    found = run(np.append(scores, [0.0, 0.0]), both, [*names, "x", "y"], precision=target)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    text = render(found, "rouge_l")
    assert all(len(line) <= 100 for line in text.splitlines())
    assert f"{found['n']} pairs in {found['groups']} groups" in text
    if found["threshold"] is None:
        assert found["why"] in text
    else:
        # In full: rounded down, it would accept pairs that tie with it.
        assert f"threshold {found['threshold']!r}" in text
    assert ("groups are few" in text) == (found["groups"] < 20)


def test_doubtful_precision_is_warned_of():
    doubtful, sound = run(*pairs(groups=21)), run(*pairs(groups=900))
    assert doubtful["ci"]["precision"][0] < 0.8 < sound["ci"]["precision"][0]
    assert "may be as low as" in render(doubtful, "rs")
    assert "warning" not in render(sound, "rs")


def test_memory_does_not_grow_with_the_resamples():
    scores, labels, groups = pairs(groups=60_000, most=3, steps=400)
    peaks = []
    for resamples in (5, 20):
        tracemalloc.start()
        run(scores, labels, groups, resamples=resamples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]

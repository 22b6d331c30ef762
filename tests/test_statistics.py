import tracemalloc
from itertools import product

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from accord.evaluate import metrics, statistics
from accord.evaluate.statistics import (
    bootstrap,
    detectable,
    holm,
    interval,
    ratio,
    sign_flip,
    signatures,
    student,
)

SEEDS = st.integers(0, 10**6)


def clusters(random, questions, mean, spread=1.5, most=5):
    """Summed 0/1 scores and numbers of pairs of each question, whose pairs are alike."""
    rates = random.beta(mean * spread, (1 - mean) * spread, questions)
    pairs = random.integers(1, most + 1, questions)
    return np.column_stack([random.binomial(pairs, rates), pairs]).astype(float)


def alone(values):
    """Sums of questions with one pair each."""
    return np.column_stack([values, np.ones(len(values))])


def bleu_of(sums):
    return metrics.corpus_bleu(sums)[..., None]


def replicates(sums, combine, resamples, seed):
    """Resampled scores (resamples, m), from the draws that `bootstrap` makes."""
    counts = np.concatenate(list(statistics._counts(len(sums), resamples, seed)))
    return combine(counts @ sums)


def slow(values, cluster, resamples, seed):
    """A bootstrap over questions in plain steps: draw questions, gather their pairs, average."""
    random = np.random.default_rng(seed)
    names = np.unique(cluster)
    found = []
    for _ in range(resamples):
        drawn = random.choice(names, len(names))
        found.append(np.concatenate([values[cluster == name] for name in drawn]).mean())
    return np.array(found)


# --- Standard errors


def test_agrees_with_a_slow_bootstrap_over_pairs():
    random = np.random.default_rng(3)
    cluster = np.repeat(np.arange(40), random.integers(1, 6, 40))
    values = np.clip(random.random(40)[cluster] + random.normal(0, 0.1, len(cluster)), 0, 1)
    sums = np.column_stack([np.bincount(cluster, values), np.bincount(cluster)])
    found = bootstrap(sums, ratio, resamples=4000, seed=0)
    expected = slow(values, cluster, 4000, 1)
    assert found.value(0) == pytest.approx(values.mean(), abs=1e-12)
    assert found.errors[0] == pytest.approx(expected.std() * np.sqrt(40 / 39), rel=0.05)
    quantiles = [0.025, 0.25, 0.5, 0.75, 0.975]
    drawn = np.quantile(replicates(sums, ratio, 4000, 0), quantiles)
    np.testing.assert_allclose(drawn, np.quantile(expected, quantiles), atol=0.007)


def test_standard_error_is_that_of_the_linearised_ratio():
    sums = clusters(np.random.default_rng(0), 200, 0.6)
    found = bootstrap(sums, ratio, resamples=4000, seed=0)
    residual = sums[:, 0] - found.values[0] * sums[:, 1]
    expected = np.sqrt((residual**2).sum() * 200 / 199) / sums[:, 1].sum()
    assert found.errors[0] == pytest.approx(expected, rel=0.05)


def test_standard_error_of_a_mean_of_few_questions_is_unbiased():
    """Without n / (n - 1) a bootstrap over 4 questions is too small by 13 %."""
    values = np.array([0.1, 0.4, 0.5, 0.9])
    found = bootstrap(alone(values), ratio, resamples=40000, seed=0)
    assert found.errors[0] == pytest.approx(stats.sem(values), rel=0.02)


def test_paired_difference_has_the_error_of_its_differences():
    random = np.random.default_rng(2)
    hard = random.random(60)
    other = np.clip(hard + random.normal(0, 0.05, 60), 0, 1)
    found = bootstrap(alone(hard), ratio, minus=alone(other), resamples=8000, seed=0)
    assert found.value(0) == pytest.approx((hard - other).mean(), abs=1e-12)
    assert found.errors[0] == pytest.approx(stats.sem(hard - other), rel=0.04)
    apart = np.hypot(stats.sem(hard), stats.sem(other))
    assert found.errors[0] < apart / 4  # unpaired it would be far larger


def test_errors_and_intervals_are_made_of_the_draws():
    random = np.random.default_rng(8)
    sums, minus = clusters(random, 30, 0.4), clusters(random, 30, 0.6)
    one = bootstrap(sums, ratio, resamples=300, seed=5)
    drawn = replicates(sums, ratio, 300, 5)[:, 0]
    assert one.errors[0] == pytest.approx(drawn.std(ddof=1) * np.sqrt(30 / 29), rel=1e-9)
    assert one.interval(0) == pytest.approx(interval(one.value(0), drawn, 30), rel=1e-9)
    two = bootstrap(sums, ratio, minus=minus, resamples=300, seed=5)
    drawn = drawn - replicates(minus, ratio, 300, 5)[:, 0]
    expected = interval(two.value(0), drawn, 30, bounds=(-1, 1))
    assert two.interval(0) == pytest.approx(expected, rel=1e-9)


def test_bleu_is_recomputed_from_the_drawn_questions():
    answers = ["pay the refund within 30 days", "log in with the password", "no", "yes you can pay"]
    wanted = ["pay refund within 30 days", "you log in with the password", "never", "you can pay"]
    counts = next(statistics._counts(4, 40, seed=1)).astype(int)
    expected = [
        sacrebleu.corpus_bleu([answers[i] for i in own], [[wanted[i] for i in own]]).score / 100
        for own in (np.repeat(np.arange(4), row) for row in counts)
    ]
    found = bootstrap(metrics.bleu(answers, wanted), bleu_of, resamples=40, seed=1)
    assert found.value(0) == pytest.approx(sacrebleu.corpus_bleu(answers, [wanted]).score / 100)
    assert found.errors[0] == pytest.approx(np.std(expected, ddof=1) * np.sqrt(4 / 3), rel=1e-9)


# --- Draws


def test_each_draw_has_as_many_questions_as_there_are():
    counts = np.concatenate(list(statistics._counts(7, 100, seed=0)))
    assert counts.shape == (100, 7)
    assert (counts.sum(axis=1) == 7).all()


@pytest.fixture
def block(monkeypatch):
    """block(size): how many numbers may be held at once."""
    return lambda size: monkeypatch.setattr(statistics, "_BLOCK", size)


@pytest.mark.parametrize("size", [1, 50, 333, 2000])
@pytest.mark.parametrize("questions", [2, 7, 13, 40])
def test_the_size_of_the_blocks_does_not_matter(block, questions, size):
    random = np.random.default_rng(questions)
    first, second = (clusters(random, questions, mean) for mean in (0.4, 0.6))
    settings = {"resamples": 301, "seed": 3}

    def run():
        found = bootstrap(first, ratio, minus=second, **settings)
        p = sign_flip(first, second, ratio, **settings)
        return found.errors, found.low, found.high, p

    expected = run()
    block(size)
    for own, whole in zip(run(), expected, strict=True):
        np.testing.assert_allclose(own, whole, rtol=1e-9)


@pytest.mark.parametrize(("questions", "columns"), [(200, 2), (12, 400)])
def test_memory_does_not_grow_with_the_resamples(block, questions, columns):
    block(2**15)
    sums = np.random.default_rng(0).random((questions, columns))
    peaks = {}
    for resamples in (1_000, 20_000):
        tracemalloc.start()
        bootstrap(sums, ratio, resamples=resamples, seed=0)
        sign_flip(sums, sums[::-1], ratio, resamples=resamples, seed=0)
        peaks[resamples] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[20_000] < 1.1 * peaks[1_000]


def test_the_seed_alone_decides_and_all_scores_share_the_draws():
    random = np.random.default_rng(0)
    sums = clusters(random, 30, 0.3)
    twice = np.column_stack([sums[:, 0], sums[:, 0], sums[:, 1]])
    found = bootstrap(twice, ratio, resamples=200, seed=4)
    assert found.interval(0) == found.interval(1)
    single = bootstrap(sums, ratio, resamples=200, seed=4)
    assert found.interval(0) == pytest.approx(single.interval(0), rel=1e-12)
    again = bootstrap(sums, ratio, resamples=200, seed=4)
    assert again.interval(0) == single.interval(0)
    other = bootstrap(sums, ratio, resamples=200, seed=5)
    assert other.interval(0) != pytest.approx(single.interval(0), rel=1e-6)
    same = bootstrap(sums, ratio, minus=sums, resamples=200, seed=4)
    assert (same.value(0), same.errors[0]) == (0, 0)


# --- Intervals


STUDENT = {
    (1, 0.975): 1e-12,
    (1, 0.8): 1e-12,
    (2, 0.975): 1e-12,
    (2, 0.8): 1e-12,
    (3, 0.975): 2e-3,
    (3, 0.8): 2e-4,
    (9, 0.975): 1e-5,
    (9, 0.9995): 5e-4,
    (99, 0.975): 1e-9,
}


@pytest.mark.parametrize(("df", "p"), STUDENT)
def test_student_quantiles(df, p):
    assert student(p, df) == pytest.approx(stats.t.ppf(p, df), rel=STUDENT[df, p])


@given(st.integers(10, 500), st.floats(0.02, 0.98), st.floats(0.001, 0.4), SEEDS)
@settings(max_examples=60)
def test_interval_of_a_score_is_students_t_on_log_odds(questions, estimate, error, seed):
    drawn = np.random.default_rng(seed).normal(estimate, error, 50)
    spread = drawn.std(ddof=1) * np.sqrt(questions / (questions - 1))
    t = stats.t.ppf(0.975, questions - 1)
    reach = t * spread / (estimate * (1 - estimate))
    expected = special.expit(special.logit(estimate) + np.array([-reach, reach]))
    assert interval(estimate, drawn, questions) == pytest.approx(expected, rel=1e-4, abs=1e-12)


@given(st.integers(10, 500), st.floats(-0.9, 0.9), st.floats(0.001, 0.4), SEEDS)
@settings(max_examples=60)
def test_interval_of_a_difference_is_students_t(questions, estimate, error, seed):
    drawn = np.random.default_rng(seed).normal(estimate, error, 50)
    spread = drawn.std(ddof=1) * np.sqrt(questions / (questions - 1))
    expected = stats.t.interval(0.95, questions - 1, estimate, spread)
    found = interval(estimate, drawn, questions, bounds=(-1, 1))
    assert found == pytest.approx(np.clip(expected, -1, 1), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("questions", [2, 5, 20, 300])
def test_a_score_at_the_edge_has_the_interval_of_clopper_and_pearson(questions):
    exact = stats.binomtest(0, questions).proportion_ci(0.95, method="exact")
    for edge, expected in ((0.0, [0, exact.high]), (1.0, [1 - exact.high, 1])):
        assert interval(edge, np.full(100, edge), questions) == pytest.approx(expected)
        found = bootstrap(alone(np.full(questions, edge)), ratio, resamples=20, seed=0)
        assert found.interval(0) == pytest.approx(expected)


def test_scores_without_spread_between_the_edges_are_not_certain():
    low, high = interval(0.5, np.full(100, 0.5), 20)
    exact = stats.binomtest(0, 20).proportion_ci(0.95, method="exact").high
    assert (low, high) == pytest.approx((0.5 - exact / 2, 0.5 + exact / 2))
    low, high = interval(0.0, np.zeros(100), 20, bounds=(-1, 1))
    assert (low, high) == pytest.approx((-exact, exact))


@given(st.integers(2, 12), st.floats(0.02, 0.98), SEEDS)
@settings(max_examples=80)
def test_intervals_are_ordered_hold_the_estimate_and_stay_within_bounds(questions, mean, seed):
    random = np.random.default_rng(seed)
    sums, minus = clusters(random, questions, mean), clusters(random, questions, mean)
    one = bootstrap(sums, ratio, resamples=50, seed=seed)
    two = bootstrap(sums, ratio, minus=minus, resamples=50, seed=seed)
    for found, least in ((one, 0), (two, -1)):
        low, high = found.interval(0)
        assert least <= low <= found.value(0) <= high <= 1


@pytest.mark.parametrize(("questions", "mean"), [(20, 0.1), (20, 0.5), (20, 0.85), (60, 0.4)])
def test_intervals_cover_the_truth_and_are_not_needlessly_wide(questions, mean):
    """600 simulated tables: at most 4 standard errors below 95 %, and no more than 99 %."""
    random = np.random.default_rng(7)
    hits = 0
    for seed in range(600):
        found = bootstrap(clusters(random, questions, mean), ratio, resamples=200, seed=seed)
        low, high = found.interval(0)
        hits += low <= mean <= high
    assert 0.95 - 4 * np.sqrt(0.95 * 0.05 / 600) <= hits / 600 <= 0.99


def test_what_was_not_scored_is_nan():
    sums = np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])

    def combine(own):
        with np.errstate(invalid="ignore"):
            return own[..., :2] / own[..., 2:]

    found = bootstrap(sums, combine, clusters=[0, 2], resamples=20, seed=0)
    assert (found.value(0), found.interval(0)) == (None, None)
    assert np.isnan(found.errors[0])
    assert found.value(1) == 0.5
    assert np.isnan(sign_flip(sums, sums, combine, resamples=20, seed=0)).tolist() == [True, False]


def test_draws_that_miss_the_only_scored_questions_are_passed_over():
    sums = np.zeros((30, 2))
    sums[:2] = [[1, 1], [0, 1]]  # an eighth of the draws have neither

    def combine(own):
        with np.errstate(invalid="ignore"):
            return own[..., :1] / own[..., 1:]

    found = bootstrap(sums, combine, clusters=[2], resamples=500, seed=0)
    known = replicates(sums, combine, 500, 0)
    known = known[~np.isnan(known)]
    assert 300 < len(known) < 500
    assert found.errors[0] == pytest.approx(known.std(ddof=1) * np.sqrt(2), rel=1e-9)


def test_no_interval_from_one_question_or_none():
    one = bootstrap(np.array([[1.0, 2.0]]), ratio, resamples=10, seed=0)
    assert (one.value(0), one.interval(0)) == (0.5, None)
    assert interval(0.5, np.random.default_rng(0).random(9), 1) is None
    assert interval(0.5, np.full(9, np.nan), 5) is None
    with np.errstate(invalid="ignore"):
        none = bootstrap(np.zeros((0, 2)), ratio, resamples=10, seed=0)
    assert (none.value(0), none.interval(0)) == (None, None)


# --- Tests


def flips(first, second, combine):
    """p of the sign-flip test by all swaps of whole questions, one after the other."""

    def difference(swaps):
        own = np.where(np.array(swaps)[:, None], second, first).sum(axis=0)
        other = np.where(np.array(swaps)[:, None], first, second).sum(axis=0)
        return abs(combine(own) - combine(other))

    found = [difference(swaps) for swaps in product((False, True), repeat=len(first))]
    return np.mean([own >= found[0] - 1e-12 for own in found], axis=0)


@given(st.integers(1, 7), SEEDS)
@settings(max_examples=40, deadline=None)
def test_p_of_few_questions_is_that_of_all_swaps(questions, seed):
    random = np.random.default_rng(seed)
    first = clusters(random, questions, 0.3)
    second = np.column_stack([random.binomial(first[:, 1].astype(int), 0.7), first[:, 1]])
    found = sign_flip(first, second.astype(float), ratio, resamples=2**questions, seed=seed)
    assert found == pytest.approx(flips(first, second, ratio), abs=1e-12)


def test_p_of_bleu_is_recomputed_from_the_swapped_answers():
    first = ["pay the refund within 30 days", "log in with the password", "no", "yes you can pay"]
    second = ["pay refund in 30 days", "log in with a password", "never ever", "you can pay"]
    wanted = ["pay refund within 30 days", "you log in with the password", "never", "you can pay"]

    def difference(swaps):
        pairs = zip(first, second, swaps, strict=True)
        mixed = [(b, a) if swap else (a, b) for a, b, swap in pairs]
        scores = [
            sacrebleu.corpus_bleu(list(own), [wanted]).score for own in zip(*mixed, strict=True)
        ]
        return abs(scores[0] - scores[1])

    every = [difference(swaps) for swaps in product((False, True), repeat=4)]
    expected = np.mean([own >= every[0] - 1e-9 for own in every])
    grams = [metrics.bleu(own, wanted) for own in (first, second)]
    assert sign_flip(*grams, bleu_of, resamples=16, seed=0) == pytest.approx([expected])
    assert 0 < expected < 1


@pytest.mark.parametrize("questions", [5, 9])
def test_exact_p_is_that_of_scipy(questions):
    random = np.random.default_rng(questions)
    x, y = random.random(questions), random.random(questions) + 0.2
    expected = stats.permutation_test(
        (x, y),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    found = sign_flip(alone(x), alone(y), ratio, resamples=512, seed=0)
    assert found == pytest.approx([expected.pvalue], abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_drawn_p_is_that_of_scipy(shift):
    random = np.random.default_rng(1)
    x, y = random.random(25), random.random(25) + shift
    expected = stats.permutation_test(
        (x, y),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).pvalue
    found = sign_flip(alone(x), alone(y), ratio, resamples=20_000, seed=0)[0]
    assert found == pytest.approx(expected, abs=4 * np.sqrt(2 * expected / 20_000) + 1e-4)


def test_drawn_p_counts_half_of_the_ties():
    """Lancaster's mid-p: of rates over few questions many swaps tie with what was seen."""
    first = alone(np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1.0]))
    second = alone(np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1.0]))
    half = (first - second)[:, 0]
    sums = np.array(list(product((-1, 1), repeat=12))) @ half
    more, equal = (np.mean(own) for own in (np.abs(sums) > 5, np.abs(sums) == 5))
    assert half.sum() == 5
    assert equal > 0.05
    found = sign_flip(first, second, ratio, resamples=4000, seed=0)[0]
    expected = more + equal / 2
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected / 4000))
    assert sign_flip(first, second, ratio, resamples=4096, seed=0) == pytest.approx([more + equal])


def test_p_is_two_sided_and_one_where_nothing_differs():
    random = np.random.default_rng(3)
    first, second = clusters(random, 20, 0.3), clusters(random, 20, 0.7)
    second[:, 1] = first[:, 1]
    options = {"resamples": 500, "seed": 2}
    there = sign_flip(first, second, ratio, **options)
    assert there == pytest.approx(sign_flip(second, first, ratio, **options), abs=1e-12)
    assert sign_flip(first, first, ratio, **options).tolist() == [1.0]
    moved = first[::-1].copy()  # other answers, the same mean
    moved[:, 1] = first[:, 1] = 3
    assert sign_flip(first, moved, ratio, **options).tolist() == [1.0]


def test_p_is_never_zero():
    first, second = alone(np.ones(100)), alone(np.zeros(100))
    assert sign_flip(first, second, ratio, resamples=200, seed=0) == pytest.approx([1 / 201])
    # Of one question nothing can be said.
    assert sign_flip(first[:1], second[:1], ratio, resamples=200, seed=0).tolist() == [1.0]


def test_a_true_null_is_rejected_in_five_of_a_hundred():
    """800 tables; 4 standard errors. Counted in full, ties would make it far fewer."""
    random = np.random.default_rng(11)
    rejected = 0
    for seed in range(800):
        rates = random.beta(0.8, 0.8, 30)
        pairs = random.integers(1, 4, 30)
        first, second = (np.column_stack([random.binomial(pairs, rates), pairs]) for _ in range(2))
        p = sign_flip(first.astype(float), second.astype(float), ratio, resamples=400, seed=seed)
        rejected += p[0] < 0.05
    assert rejected / 800 == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 800))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_holm_is_its_step_down_procedure(p, alpha):
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[index] * (len(p) - rank) > alpha:
            break
        rejected.add(index)
    found = holm(p)
    assert {i for i, q in enumerate(found) if q <= alpha} == rejected
    assert all(a <= b <= 1 for a, b in zip(p, found, strict=True))


def test_holm_keeps_the_order_and_takes_none():
    assert holm([]) == []
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


# --- Detectable differences


def equation(size, error, questions, values, tests):
    """The right side of d = t_{1-a/2} sqrt(e(d)^2 + d^2 / n) + t_.8 e(d), growth by a grid."""
    reject, find = (student(p, questions - 1) for p in (1 - 0.025 / tests, 0.8))
    steps = np.linspace(-size, size, 2001)
    reached = [np.clip(v + steps, 0, 1) for v in values]
    now = sum(v * (1 - v) for v in values)
    more = max((r * (1 - r)).max() - v * (1 - v) for r, v in zip(reached, values, strict=True))
    moved = error * np.sqrt(1 + more / now)
    return reject * np.sqrt(moved**2 + size**2 / questions) + find * moved


RATES = st.floats(0.01, 0.99)


@given(st.integers(30, 500), st.floats(0.001, 0.2), RATES, RATES, st.integers(1, 20))
@settings(max_examples=200)
def test_detectable_solves_its_equation(questions, error, a, b, tests):
    found = detectable(error, questions, (a, b), tests=tests)
    size = 1.0 if found is None else found
    expected = min(1.0, equation(size, error, questions, (a, b), tests))
    assert size == pytest.approx(expected, rel=2e-3)


@given(st.integers(3, 500), st.floats(0.001, 0.5), RATES, RATES, st.integers(1, 20))
@settings(max_examples=200)
def test_detectable_grows_with_error_and_tests_and_falls_with_questions(n, error, a, b, tests):
    def size(error, n, tests):
        found = detectable(error, n, (a, b), tests=tests)
        return 1.0 if found is None else found

    found = size(error, n, tests)
    assert size(error * 1.07, n, tests) >= found
    assert size(error, n, tests + 1) >= found
    assert size(error, n + 1, tests) <= found * (1 + 1e-9)


def test_detectable_nears_blooms_multiple():
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert detectable(0.001, 10**6, (0.5, 0.5)) == pytest.approx(z * 0.001, rel=1e-4)


def test_detectable_is_unknown_without_a_difference_to_measure():
    assert detectable(0.0, 10, (0.5, 0.5)) is None
    assert detectable(float("nan"), 10, (0.5, 0.5)) is None
    assert detectable(0.1, 1, (0.5, 0.5)) is None
    assert detectable(0.1, 2, (0.5, 0.5)) is None  # no difference up to 1 is large enough
    assert detectable(0.5, 100, (0.5, 0.5)) is None


@pytest.mark.parametrize("questions", [20, 80])
def test_a_detectable_difference_is_found_in_four_of_five_samples(questions):
    """500 tables; at least 80 % less 4 standard errors, and not the power of a far larger one."""
    random = np.random.default_rng(5)
    size = detectable(0.2 / np.sqrt(questions), questions, (0.5, 0.5))
    found = 0
    for seed in range(500):
        first, second = np.full(questions, 0.5), 0.5 + random.normal(size, 0.2, questions)
        p = sign_flip(alone(first), alone(second), ratio, resamples=400, seed=seed)
        found += p[0] < 0.05
    error = np.sqrt(0.8 * 0.2 / 500)
    assert 0.8 - 4 * error <= found / 500 <= 0.96


def test_signatures_name_the_draws():
    assert signatures(500, 7)["bootstrap"]["resamples"] == 500
    assert signatures(500, 7)["bootstrap"]["seed"] == 7

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from accord.evaluate import metrics, statistics
from accord.evaluate.statistics import bootstrap, detectable, interval, ratio, student


def clusters(random, questions, mean, spread=1.5, most=5):
    """Summed 0/1 scores and numbers of pairs of each question, whose pairs are alike."""
    rates = random.beta(mean * spread, (1 - mean) * spread, questions)
    pairs = random.integers(1, most + 1, questions)
    return np.column_stack([random.binomial(pairs, rates), pairs]).astype(float)


def slow(values, cluster, resamples, seed):
    """A bootstrap over questions in plain steps: draw questions, gather their pairs, average."""
    random = np.random.default_rng(seed)
    names = np.unique(cluster)
    found = []
    for _ in range(resamples):
        drawn = random.choice(names, len(names))
        found.append(np.concatenate([values[cluster == name] for name in drawn]).mean())
    return np.array(found)


def test_agrees_with_a_slow_bootstrap_over_pairs():
    random = np.random.default_rng(3)
    cluster = np.repeat(np.arange(40), random.integers(1, 6, 40))
    values = np.clip(random.random(40)[cluster] + random.normal(0, 0.1, len(cluster)), 0, 1)
    sums = np.column_stack([np.bincount(cluster, values), np.bincount(cluster)])
    found = bootstrap(sums[None], ratio, resamples=4000, seed=0)
    expected = slow(values, cluster, 4000, 1)
    assert found.estimates[0, 0] == pytest.approx(values.mean(), abs=1e-12)
    assert found.replicates[0, :, 0].std() == pytest.approx(expected.std(), rel=0.05)
    quantiles = [0.025, 0.25, 0.5, 0.75, 0.975]
    np.testing.assert_allclose(
        np.quantile(found.replicates, quantiles), np.quantile(expected, quantiles), atol=0.007
    )


def test_standard_error_is_that_of_the_linearised_ratio():
    sums = clusters(np.random.default_rng(0), 200, 0.6)
    found = bootstrap(sums[None], ratio, resamples=4000, seed=0)
    residual = sums[:, 0] - found.estimates[0, 0] * sums[:, 1]
    expected = np.sqrt((residual**2).sum()) / sums[:, 1].sum()
    assert found.replicates.std() == pytest.approx(expected, rel=0.05)


def test_bleu_is_recomputed_from_the_drawn_questions():
    answers = ["pay the refund within 30 days", "log in with the password", "no", "yes you can pay"]
    wanted = ["pay refund within 30 days", "you log in with the password", "never", "you can pay"]
    counts = next(statistics._counts(4, 5, seed=1, block=5))
    found = bootstrap(
        metrics.bleu(answers, wanted)[None],
        lambda sums: metrics.corpus_bleu(sums)[..., None],
        resamples=5,
        seed=1,
    )
    for row, replicate in zip(counts.astype(int), found.replicates[0, :, 0], strict=True):
        drawn = np.repeat(np.arange(4), row)
        expected = sacrebleu.corpus_bleu([answers[i] for i in drawn], [[wanted[i] for i in drawn]])
        assert replicate == pytest.approx(expected.score / 100, abs=1e-12)


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 9))
def test_blocks_do_not_matter(block, questions, seed):
    sums = clusters(np.random.default_rng(seed), questions, 0.5)[None]
    whole = bootstrap(sums, ratio, resamples=30, seed=seed, block=30)
    parts = bootstrap(sums, ratio, resamples=30, seed=seed, block=block)
    np.testing.assert_allclose(whole.replicates, parts.replicates, rtol=1e-14)


def test_models_share_the_draws_and_do_not_disturb_one_another():
    random = np.random.default_rng(0)
    sums = np.stack([clusters(random, 30, mean) for mean in (0.3, 0.6, 0.3)])
    sums[2] = sums[0]
    together = bootstrap(sums, ratio, resamples=200, seed=4)
    alone = bootstrap(sums[1:2], ratio, resamples=200, seed=4)
    assert (together.replicates[0] == together.replicates[2]).all()
    assert (together.replicates[1] == alone.replicates[0]).all()
    assert (bootstrap(sums, ratio, resamples=200, seed=5).replicates != together.replicates).any()


def test_each_draw_has_as_many_questions_as_there_are():
    counts = np.concatenate(list(statistics._counts(7, 100, seed=0, block=9)))
    assert counts.shape == (100, 7)
    assert (counts.sum(axis=1) == 7).all()


@pytest.mark.parametrize(("df", "tolerance"), [(1, 1e-12), (2, 1e-12), (3, 2e-3), (9, 1e-5)])
def test_student_quantiles(df, tolerance):
    assert student(0.975, df) == pytest.approx(stats.t.ppf(0.975, df), rel=tolerance)


def test_interval_of_a_mean_is_nearly_as_wide_as_the_t_interval():
    values = np.random.default_rng(1).normal(0.5, 0.1, 8)
    sums = np.column_stack([values, np.ones(8)])
    found = bootstrap(sums[None], ratio, resamples=20000, seed=0).interval(0, 0)
    expected = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    # Not equally placed: percentiles follow the skewness of these eight values.
    assert np.ptp(found) == pytest.approx(np.ptp(expected), rel=0.08)


@pytest.mark.parametrize(
    ("questions", "mean", "measured"), [(12, 0.4, 0.93), (30, 0.4, 0.95), (30, 0.85, 0.925)]
)
def test_interval_covers_the_truth(questions, mean, measured):
    """`measured`: coverage over 1,500 and more simulated tables; here 300, so 3 standard errors."""
    random = np.random.default_rng(7)
    hits = plain = 0
    for seed in range(300):
        found = bootstrap(clusters(random, questions, mean)[None], ratio, resamples=400, seed=seed)
        low, high = found.interval(0, 0)
        hits += low <= mean <= high
        low, high = np.quantile(found.replicates, [0.025, 0.975])
        plain += low <= mean <= high
    assert hits / 300 == pytest.approx(measured, abs=3 * np.sqrt(measured * (1 - measured) / 300))
    assert hits > plain


def test_no_interval_from_one_question():
    assert bootstrap(np.array([[[1.0, 2.0]]]), ratio, resamples=10, seed=0).interval(0, 0) is None


def test_a_score_at_the_edge_is_not_certain():
    exact = stats.binomtest(0, 20).proportion_ci(0.95, method="exact")
    assert interval(0.0, np.zeros(100), 20) == pytest.approx([0, exact.high])
    assert interval(1.0, np.ones(100), 20) == pytest.approx([1 - exact.high, 1])


@given(st.integers(2, 12), st.floats(0.05, 0.95), st.integers(0, 99))
@settings(max_examples=50)
def test_interval_is_ordered_and_within_the_unit_range(questions, mean, seed):
    sums = clusters(np.random.default_rng(seed), questions, mean)
    found = bootstrap(sums[None], ratio, resamples=50, seed=seed)
    low, high = found.interval(0, 0)
    assert 0 <= low <= found.estimates[0, 0] <= high <= 1 or questions < 4
    assert 0 <= low <= high <= 1


def test_detectable_is_the_paired_normal_approximation():
    random = np.random.default_rng(2)
    hard = random.random(100)
    values = np.stack([hard, hard + random.normal(0, 0.1, 100), hard + random.normal(0, 0.3, 100)])
    sums = np.stack([np.column_stack([row, np.ones(100)]) for row in values])
    found = bootstrap(sums, ratio, resamples=8000, seed=0)
    errors = [stats.sem(values[i] - values[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert found.detectable(0) == pytest.approx(z * max(errors), rel=0.04)
    assert found.detectable(0) == detectable(found.replicates[::-1, :, 0], 100)


def test_detectable_has_the_power_it_says():
    random = np.random.default_rng(5)
    noise = random.normal(0, 1, (1500, 60))
    size = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / np.sqrt(60)
    found = np.abs(stats.ttest_1samp(noise + size, 0, axis=1).statistic) > 1.96
    assert found.mean() == pytest.approx(0.8, abs=0.03)
    sums = np.stack([np.column_stack([row, np.ones(60)]) for row in (noise[0] * 0, noise[0])])
    ours = bootstrap(sums, ratio, resamples=4000, seed=0).detectable(0)
    assert ours == pytest.approx(size * noise[0].std(ddof=1), rel=0.05)


def test_detectable_is_unknown_without_a_difference_to_measure():
    replicates = np.random.default_rng(0).random((1, 50))
    assert detectable(replicates, 10) is None
    assert detectable(np.concatenate([replicates] * 2), 10) is None
    assert detectable(np.ones((2, 50)), 1) is None

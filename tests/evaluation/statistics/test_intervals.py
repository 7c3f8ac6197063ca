"""Intervals: against references, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from experiments import error_rates as rates
from experiments.error_rates import World
from lorafuse_jax.evaluation import statistics as ours
from lorafuse_jax.evaluation.statistics.resampling import example_counts, resampled_means
from tests.evaluation.statistics.bands import near

STATSMODELS_WILSON = {  # statsmodels 0.15.0: proportion_confint(k, n, method="wilson")
    (0, 20): (0.0, 0.1611251580528194),
    (7, 41): (0.08525251977594996, 0.31262612400404177),
    (20, 20): (0.8388748419471804, 1.0),
    (811, 1319): (0.5883005128502116, 0.640751878862793),
}


@pytest.mark.parametrize(("counts", "bounds"), STATSMODELS_WILSON.items())
def test_wilson_is_statsmodels(counts, bounds):
    right, examples = counts
    found = ours.wilson(np.arange(examples) < right)
    assert (found.low, found.high) == pytest.approx(bounds)
    assert found.value == right / examples


def test_accuracy_of_shares_is_bootstrapped_and_of_right_answers_wilsons():
    values = np.random.default_rng(0).integers(0, 2, 60).astype(float)
    assert ours.accuracy_interval(values) == ours.wilson(values == 1)
    shares = np.random.default_rng(0).integers(0, 6, 400) / 5
    error = shares.std() / np.sqrt(400)
    found = ours.accuracy_interval(shares)
    # 4000 draws place a 2.5 % quantile within about 0.07 standard errors.
    assert found.low == pytest.approx(shares.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(shares.mean() + 1.96 * error, abs=0.2 * error)


def test_resampled_means_are_those_of_the_drawn_examples_and_paired():
    values = np.random.default_rng(1).normal(1e4, 1, (2, 3, 40))
    draws = resampled_means(values, seed=3, resamples=50)
    counts = example_counts(40, 3, 50)
    assert (counts.sum(axis=1) == 40).all()
    expected = np.einsum("re,abe->abr", counts, values) / 40
    assert draws == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(draws, resampled_means(values, seed=3, resamples=50))
    assert not np.array_equal(draws, resampled_means(values, seed=4, resamples=50))


def test_example_counts_vary_as_drawing_with_replacement_does():
    counts = example_counts(30, 0, 4000).astype(float)
    assert counts.mean() == 1
    assert counts.var() == pytest.approx(1 - 1 / 30, rel=0.02)


def test_estimate_of_one_row_is_students():
    row = np.random.default_rng(2).normal(0.2, 1, (1, 50))
    found, expected = ours.crossed_estimate(row, bounded=False), stats.ttest_1samp(row[0], 0)
    students = expected.confidence_interval()
    interval = found.interval()
    assert (interval.low, interval.high) == pytest.approx((students.low, students.high))
    assert found.p_value() == pytest.approx(expected.pvalue)


def test_estimate_of_rows_that_differ_and_columns_that_do_not_is_students_over_rows():
    each = np.array([0.2, -0.1, 0.4])
    found = ours.crossed_estimate(np.repeat(each[:, None], 80, axis=1), bounded=False)
    expected = stats.ttest_1samp(each, 0)
    assert found.p_value() == pytest.approx(expected.pvalue)
    assert found.interval().low == pytest.approx(expected.confidence_interval().low)


def test_p_value_is_below_its_level_exactly_where_the_interval_excludes_zero():
    rng = np.random.default_rng(4)
    for _ in range(40):
        table = rng.normal(rng.normal(0, 0.5), 1, (3, 30)) + rng.normal(0, 0.2, (3, 1))
        found = ours.crossed_estimate(table, bounded=False)
        assert (found.p_value() < 0.05) == found.interval().excludes_zero()


def test_rows_without_any_difference_still_have_the_width_that_so_few_examples_leave():
    found = ours.crossed_estimate(np.zeros((3, 100)), bounded=True)
    # One minus the share with which 100 examples alike are as likely as 2.5 %: exact, 3.62 %.
    exact = stats.beta.ppf(0.975, 1, 100)
    assert found.interval().high == pytest.approx(exact, rel=0.06)
    assert found.detectable() > exact and found.p_value() == 1.0
    real = ours.crossed_estimate(np.zeros((3, 100)), bounded=False)
    assert real.interval().high == 0 and real.detectable() is None


def test_wilson_and_the_bootstrap_of_shares_hold_the_truth():
    assert near(rates.one_model_covers(200, 0.7, 500), 0.95, 500)
    assert near(rates.one_model_covers(200, 0.5, 120, 5), 0.95, 120)


@pytest.mark.parametrize("seeds", [2, 3, 8])
@pytest.mark.parametrize("between_seeds", [0.0, 0.3])
def test_interval_over_seeds_holds_the_truth_however_much_they_differ(seeds, between_seeds):
    world = World(seeds=seeds, between_seeds=between_seeds, follows=False)
    covered, _ = rates.crossed_covers(world, 1000)
    assert covered > 0.95 - 3.5 * np.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize("groups", [2, 3, 5, 10])
@pytest.mark.parametrize("between_seeds", [0.0, 0.3])
def test_interval_over_groups_holds_the_truth_even_with_few(groups, between_seeds):
    world = World(examples=100, groups=groups, between_seeds=between_seeds, between_groups=0.1)
    covered, _ = rates.crossed_covers(world, 500)
    assert covered > 0.95 - 3.5 * np.sqrt(0.05 * 0.95 / 500)


def test_bootstraps_over_few_are_too_narrow_and_over_many_are_not():
    few = World(examples=100, seeds=2, between_seeds=0.3, follows=False)
    assert rates.bootstrap_covers(few, 100, 200)[0] < 0.88
    groups = World(examples=100, groups=3, between_seeds=0.3)
    assert rates.bootstrap_covers(groups, 100, 200)[0] < 0.95
    many = World(examples=100, groups=10, between_seeds=0.3)
    assert rates.bootstrap_covers(many, 100, 200)[0] > 0.9


def test_bootstraps_have_the_variance_of_what_they_draw():
    rng = np.random.default_rng(7)
    row, seeds = rng.normal(0, 1, 300), np.repeat([[0.3], [-0.1], [0.5], [0.1]], 300, axis=1)
    found = ours.pigeonhole_bootstrap(row, seeds)
    error = np.sqrt(row.var() / 300 + seeds[:, 0].var() / 4)
    assert found.value == pytest.approx(row.mean() - 0.2)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_hierarchical_bootstrap_draws_groups_seeds_and_examples():
    """Each source alone: its width is that of the mean of so many draws from it."""
    groups, examples = 6, 200
    level = np.linspace(-1, 1, groups)
    rows, alike = np.repeat(level[:, None], examples, 1), [np.zeros((3, examples))] * groups
    over_groups = ours.hierarchical_bootstrap(rows, alike)
    expected = 2 * 1.96 * level.std() / np.sqrt(groups)
    assert over_groups.high - over_groups.low == pytest.approx(expected, rel=0.1)
    seeds = [np.repeat([[1.0], [0.0], [-1.0]], examples, 1)] * groups
    over_seeds = ours.hierarchical_bootstrap(np.zeros((groups, examples)), seeds)
    expected = 2 * 1.96 * np.sqrt(2 / 3 / 3 / groups)
    assert over_seeds.high - over_seeds.low == pytest.approx(expected, rel=0.1)
    same = np.tile(np.random.default_rng(0).normal(0, 1, examples), (groups, 1))
    over_examples = ours.hierarchical_bootstrap(same, alike)
    expected = 2 * 1.96 * same[0].std() / np.sqrt(examples)
    assert over_examples.high - over_examples.low == pytest.approx(expected, rel=0.1)


def test_intervals_of_shares_end_where_shares_do():
    few = np.array([[1.0, 0.0], [1.0, 1.0]])
    wide = ours.crossed_estimate(few, bounded=False).interval()
    found = ours.crossed_estimate(few, bounded=True).interval()
    assert wide.low < -1 and wide.high > 1
    assert (found.value, found.low, found.high) == (0.75, -1.0, 1.0)

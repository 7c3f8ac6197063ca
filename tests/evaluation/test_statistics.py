"""The tests' own error rates, on simulated data with known effects."""

import numpy as np
import pytest
from scipy import stats

from lorafuse_jax.evaluation import statistics as ours

TRIALS = 300
BAND = 3 * np.sqrt(0.05 * 0.95 / TRIALS)
"""Three standard errors of a share of 5 % (or 95 %) in so many trials."""


def simulated(rng, effect, examples=60, seeds=3, spread=0.0):
    """Right or wrong answers of seeds and a fused model, on problems of all difficulties.

    Seeds differ in ability with standard deviation ``spread``; the fused one has the mean's.
    """
    difficulty = rng.beta(0.7, 0.7, examples)
    row = rng.random(examples) < np.clip(difficulty + effect, 0, 1)
    ability = rng.normal(0, spread, (seeds, 1))
    share = np.clip(difficulty + ability, 0, 1)
    return row.astype(float), (rng.random((seeds, examples)) < share).astype(float)


def rejections(effect):
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(TRIALS):
        row, seeds = simulated(rng, effect)
        p_values.append(ours.sign_flip_p_value(row - seeds.mean(0)))
    return np.mean(np.array(p_values) < 0.05)


def test_no_effect_is_rejected_about_one_time_in_twenty():
    # The lower end is generous: discrete data make the test a bit conservative.
    assert 0.01 < rejections(0.0) < 0.05 + BAND


def test_power_grows_with_the_effect_and_reaches_the_promise():
    rng = np.random.default_rng(2)
    detectable = np.mean(
        [
            ours.detectable_difference(row - s.mean(0))
            for row, s in (simulated(rng, 0.1) for _ in range(50))
        ]
    )
    at_promise = rejections(1.35 * detectable)  # clipping at 0 and 1 eats a part of the shift
    assert rejections(0.0) < rejections(0.5 * detectable) < at_promise
    assert at_promise > 0.7


def test_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.3, (TRIALS, 80))
    shift = ours.detectable_difference(noise.ravel()[:80] / noise.ravel()[:80].std() * 0.3)
    found = stats.ttest_1samp(noise + shift, 0, axis=1).pvalue < 0.05
    assert abs(found.mean() - ours.POWER) < 3 * np.sqrt(0.8 * 0.2 / TRIALS)


def coverage(examples, seeds, spread, trials=150):
    rng, covered = np.random.default_rng(3), []
    for _ in range(trials):
        row, others = simulated(rng, 0.0, examples, seeds, spread)
        d = ours.gain_over_seeds(row, others, bounded=True).interval()
        covered.append(d.low <= 0 <= d.high)
    return np.mean(covered)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (8, 0.08)])
def test_interval_covers_the_true_difference(seeds, spread):
    """Also where seeds differ, if there are enough of them; three would be too few."""
    assert coverage(60, seeds, spread) > 0.95 - BAND * np.sqrt(TRIALS / 150)


def test_mean_interval_is_students_for_normal_data():
    values = np.random.default_rng(4).normal(2, 1, 400)
    ours_, students = ours.mean_interval(values), stats.ttest_1samp(values, 0).confidence_interval()
    # 300 resamples place a 2.5 % quantile within about a fifth of a standard error (0.05).
    assert ours_.low == pytest.approx(students.low, abs=0.02)
    assert ours_.high == pytest.approx(students.high, abs=0.02)


def test_sign_flip_equals_the_exact_permutation_test():
    difference = np.array([0.4, -0.1, 0.3, 0.7, -0.2, 0.5, 0.1, 0.6])
    exact = stats.permutation_test(
        (difference,),
        lambda x, axis: abs(np.mean(x, axis)),
        permutation_type="samples",
        alternative="greater",
    )
    assert ours.sign_flip_p_value(difference) == pytest.approx(exact.pvalue, rel=1e-9)


def test_sign_flip_of_no_difference_at_all_is_one():
    assert ours.sign_flip_p_value(np.zeros(30)) == 1.0


def test_mcnemar_is_a_fair_coin_on_the_examples_that_differ():
    rng = np.random.default_rng(6)
    first, second = rng.random((2, 50)) < [[0.8], [0.5]]
    exchange = ours.mcnemar(first, second)
    assert exchange.gained == sum(a and not b for a, b in zip(first, second, strict=True))
    assert exchange.lost == sum(b and not a for a, b in zip(first, second, strict=True))
    fewer, differing = min(exchange.gained, exchange.lost), exchange.gained + exchange.lost
    assert exchange.p_value == pytest.approx(2 * stats.binom.cdf(fewer, differing, 0.5))
    same = ours.mcnemar(first, first)
    assert (same.gained, same.lost, same.p_value) == (0, 0, 1.0)


def test_holm_by_hand():
    assert ours.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert ours.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert ours.holm([]) == []


def test_wilson_is_the_formula_and_stays_inside():
    z, n, share = stats.norm.ppf(0.975), 50, 0.6
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = centre - half, centre + half
    interval = ours.wilson(np.arange(50) < 30)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.6, low, high))
    full = ours.wilson(np.array([True] * 10))
    assert full.value == 1.0 and 0.65 < full.low < 0.75 and full.high == pytest.approx(1.0)

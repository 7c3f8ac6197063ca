"""The tests' own error rates, on simulated data with known effects."""

import numpy as np
import pytest
from scipy import stats

from lorafuse_jax.evaluation import statistics as ours

TRIALS = 300


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(ours, "RESAMPLES", 300)


def simulated(rng, effect, examples=60, seeds=3):
    """Right or wrong answers of seeds and a fused model, on problems of all difficulties."""
    difficulty = rng.beta(0.7, 0.7, examples)
    row = rng.random(examples) < np.clip(difficulty + effect, 0, 1)
    return row.astype(float), (rng.random((seeds, examples)) < difficulty).astype(float)


def rejections(effect):
    rng = np.random.default_rng(1)
    p_values = []
    for trial in range(TRIALS):
        row, seeds = simulated(rng, effect)
        p_values.append(ours.sign_flip_p_value(row - seeds.mean(0), np.random.default_rng(trial)))
    return np.mean(np.array(p_values) < 0.05)


def test_no_effect_is_rejected_about_one_time_in_twenty():
    # Three standard errors of 300 trials about 5 %; discrete data make the test a bit conservative.
    assert 0.01 < rejections(0.0) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / TRIALS)


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


def test_interval_covers_the_true_difference():
    rng = np.random.default_rng(3)
    covered = []
    for trial in range(150):
        row, seeds = simulated(rng, 0.0)
        d = ours.compare_with_mean_seed(row, seeds, seed=trial).difference
        covered.append(d.low <= 0 <= d.high)
    assert np.mean(covered) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 150)


def test_sign_flip_equals_the_exact_permutation_test():
    difference = np.array([0.4, -0.1, 0.3, 0.7, -0.2, 0.5, 0.1, 0.6])
    exact = stats.permutation_test(
        (difference,), lambda x: abs(np.mean(x)), permutation_type="samples", alternative="greater"
    )
    rng = np.random.default_rng(0)
    draws = [ours.sign_flip_p_value(difference, rng) for _ in range(60)]
    assert abs(np.mean(draws) - exact.pvalue) < 0.01


def test_holm_by_hand():
    assert ours.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert ours.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_wilson_is_scipys_and_stays_inside():
    interval = ours.wilson(np.array([True] * 10))
    assert (
        interval.value == 1.0 and 0.65 < interval.low < 0.75 and interval.high == pytest.approx(1.0)
    )


def test_agreement_by_hand():
    correct = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], bool)
    assert ours.agreement(correct) == pytest.approx(np.mean([3 / 4, 3 / 4, 2 / 4]))

"""Exact tests: against references, and their error rates."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.error_rates import (
    World,
    any_of_several_rejects,
    mcnemar_rejects,
    sign_flip_rejects,
)
from lorafuse_jax.evaluation import statistics as ours
from tests.evaluation.statistics.bands import near

STATSMODELS_MCNEMAR = {  # statsmodels 0.15.0: mcnemar([[10, b], [c, 10]], exact=True).pvalue
    (16, 9): 0.2295229434967041,
    (3, 0): 0.25,
    (0, 7): 0.015625,
    (5, 5): 1.0,
    (1, 12): 0.00341796875,
    (40, 61): 0.046044066929342785,
}


def pair(gained, lost, alike=20):
    """Two models' answers with so many exchanged."""
    first = np.array([1] * gained + [0] * lost + [1, 0] * (alike // 2), float)
    second = np.array([0] * gained + [1] * lost + [1, 0] * (alike // 2), float)
    return first, second


@pytest.mark.parametrize(("counts", "expected"), STATSMODELS_MCNEMAR.items())
def test_mcnemar_is_statsmodels(counts, expected):
    found = ours.exchange(*pair(*counts))
    assert (found.gained, found.lost) == counts
    assert found.p_value == pytest.approx(expected, rel=1e-12)


def test_exchange_of_models_that_never_differ_tests_nothing_and_still_has_width():
    found = ours.exchange(*pair(0, 0))
    assert found.p_value == 1.0
    assert found.difference.low < 0 < found.difference.high


def test_exchange_counts_shares_by_which_is_higher():
    found = ours.exchange(np.array([0.2, 0.6, 1.0, 0.4]), np.array([0.4, 0.4, 0.4, 0.4]))
    assert (found.gained, found.lost) == (2, 1)
    assert found.difference.value == pytest.approx(0.15)


@pytest.mark.parametrize("scale", [1, 3, 5, 9])
def test_sign_flip_is_the_exact_permutation_test(scale):
    difference = np.random.default_rng(scale).integers(-scale, scale + 1, 12) / scale
    exact = stats.permutation_test(
        (difference,),
        lambda x, axis: np.abs(np.sum(x * scale, axis)).round(6),
        permutation_type="samples",
        alternative="greater",
    )
    assert ours.sign_flip_p_value(difference) == pytest.approx(exact.pvalue, rel=1e-9)


def test_sign_flip_of_right_and_wrong_is_mcnemar():
    rng = np.random.default_rng(5)
    first, second = (rng.random((2, 500)) < [[0.62], [0.55]]).astype(float)
    expected = ours.exchange(first, second).p_value
    assert ours.sign_flip_p_value(first - second) == pytest.approx(expected)


def test_sign_flip_of_real_numbers_is_near_students_test():
    difference = np.random.default_rng(3).normal(0.08, 1, 900)
    found = ours.sign_flip_p_value(difference)
    # 4000 random flips know a p of 2 % to three standard errors of 0.2 points.
    assert found == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, abs=0.007)
    assert found == ours.sign_flip_p_value(difference)


def test_sign_flip_is_never_zero_and_one_without_any_difference():
    assert ours.sign_flip_p_value(np.zeros(30)) == 1.0
    assert ours.sign_flip_p_value(np.ones(9)) == pytest.approx(2 * 0.5**9)
    assert 0 < ours.sign_flip_p_value(np.ones(5000)) < 1e-12
    assert ours.sign_flip_p_value(np.linspace(1, 2, 900)) == pytest.approx(1 / 4001)


def test_smallest_p_is_that_of_groups_that_all_gain():
    for count in (1, 2, 5):
        found = ours.sign_flip_p_value(np.full(count, 0.1))
        assert found == pytest.approx(ours.smallest_p_value(count))


def test_false_findings_where_nothing_differs_are_five_in_a_hundred():
    world = World(examples=400)
    assert near(sign_flip_rejects(world, 500), 0.05, 500)
    found = mcnemar_rejects(world, 500)
    # An exact test of whole numbers stays below its level.
    assert found > 0.015 and (found < 0.05 or near(found, 0.05, 500))


def test_holm_keeps_the_error_of_the_family():
    plain, corrected = any_of_several_rejects(8, 300)
    assert plain > 0.15
    assert near(corrected, 0.05, 300) or corrected < 0.05


def test_holm_is_statsmodels():
    # statsmodels 0.15.0: multipletests(p, method="holm")[1]
    p_values = [0.012, 0.0004, 0.21, 0.034, 0.034, 0.9]
    assert ours.holm(p_values) == pytest.approx([0.06, 0.0024, 0.42, 0.136, 0.136, 0.9])
    assert ours.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert ours.holm([]) == []


@pytest.mark.parametrize("count", [3, 4, 5, 11])
def test_a_few_real_numbers_are_flipped_in_every_way(count):
    # Gains of groups of 1319 examples are no multiples of 1/256.
    gains = np.random.default_rng(count).normal(0.4, 1, count)
    signs = np.array(list(itertools.product([1, -1], repeat=count)))
    expected = (np.abs(signs @ gains) >= abs(gains.sum()) - 1e-12).mean()
    assert ours.sign_flip_p_value(gains) == pytest.approx(expected, abs=1e-12)
    assert ours.sign_flip_p_value(np.abs(gains)) == ours.smallest_p_value(count)

"""What could have been seen, and what may be said."""

import numpy as np
import pytest

from experiments import error_rates as rates
from experiments.error_rates import World
from lorafuse_jax.evaluation import statistics as ours
from lorafuse_jax.evaluation.statistics import Interval


@pytest.mark.parametrize("examples", [60, 300])
def test_a_difference_called_detectable_is_found_four_times_in_five(examples):
    _, power = rates.power_at_detectable(World(examples), 500)
    assert abs(power - 0.8) < 0.07


@pytest.mark.parametrize("examples", [60, 1319])
def test_where_models_else_agree_the_detectable_difference_is_eight_examples(examples):
    detectable, power = rates.power_of_rare_gains(examples, 800)
    assert 7.5 < detectable * examples < 8.5
    assert abs(power - 0.8) < 0.08


def test_a_gain_called_detectable_over_groups_is_found():
    for groups in (3, 8):
        world = World(examples=150, groups=groups, between_seeds=0.1)
        _, power = rates.power_over_groups(world, 400)
        assert 0.68 < power < 0.95


def test_nothing_is_detectable_where_no_p_can_be_small():
    assert ours.detectable_difference(np.array([1.0, 0, 0, 1, 0]), 1.0) is None
    assert ours.detectable_difference(np.zeros(100), 0.0) is None
    assert ours.detectable_difference(np.zeros(100), 1 / 3) == pytest.approx(8.05 / 300, rel=0.01)


@pytest.mark.parametrize(
    ("values", "step"), [([0, 1, 1], 1), ([0.2, 1, 0], 0.2), ([1, 1, 1], 1), ([0.5, 0.75], 0.25)]
)
def test_resolution_is_the_least_step(values, step):
    assert ours.resolution(np.array(values, float)) == pytest.approx(step)


@pytest.mark.parametrize(
    ("interval", "p", "seeds", "finding"),
    [
        ((0.05, 0.01, 0.09), 0.01, 3, "better"),
        ((-0.05, -0.09, -0.01), 0.01, 3, "worse"),
        ((0.05, -0.01, 0.11), 0.01, 3, "better with these seeds"),
        ((-0.05, -0.11, 0.01), 0.01, 3, "worse with these seeds"),
        ((0.05, 0.01, 0.09), 0.01, 1, "better with these seeds"),
        ((0.05, 0.01, 0.09), 0.06, 3, "open"),
        ((0.005, -0.01, 0.02), 0.4, 3, "equivalent"),
        ((0.005, -0.011, 0.021), 0.4, 3, "open"),
        ((0.0, -0.03, 0.01), 0.9, 3, "open"),
    ],
)
def test_findings_are_as_strong_as_the_numbers(interval, p, seeds, finding):
    assert ours.conclude(Interval(*interval), p, margin=0.02, seeds=seeds) == finding


def test_equivalence_that_is_not_asked_is_not_found():
    assert ours.conclude(Interval(0.0, -1e-9, 1e-9), 0.9, margin=None) == "open"


def test_p_alone_errs_where_seeds_differ_and_the_finding_does_not():
    world = World(between_seeds=0.3, follows=False)
    alone, finding = rates.better_or_worse(world, 300)
    assert alone > 0.3
    assert finding < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 300)


def test_comparison_keeps_three_intervals_apart():
    rng = np.random.default_rng(8)
    row = (rng.random(300) < 0.6).astype(float)
    seeds = (rng.random((3, 300)) < [[0.45], [0.6], [0.55]]).astype(float)
    found = ours.compare_with_mean_seed(row, seeds)
    expected = row.mean() - seeds.mean()
    for interval in (found.difference, found.over_examples, found.bootstrap):
        assert interval.value == pytest.approx(expected)
    width = {name: i.high - i.low for name, i in vars(found).items() if isinstance(i, Interval)}
    assert width["over_examples"] < width["bootstrap"] < width["difference"]
    assert found.detectable < found.detectable_over_seeds
    assert found == ours.compare_with_mean_seed(row, seeds)

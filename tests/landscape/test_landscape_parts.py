"""Points, contrasts and barriers, against sums done by hand and by loops."""

import math
from itertools import combinations

import numpy as np
import pytest

from lorafuse_jax.landscape.measures import barrier, contrast, gain_of_size
from lorafuse_jax.landscape.plan import make_plan
from lorafuse_jax.landscape.points import (
    STEPS,
    line_places,
    name_of,
    on_line,
    subsets_of,
    triangle,
    uniform,
)


def of_points(function, places, tokens):
    """Losses [P, E] of a toy: ``function(t)`` a token at place t, on every example."""
    return np.array([function(t) * tokens for t in places])


def test_barrier_of_a_quadratic_hill_is_its_height_over_the_line():
    """L(t) = 1 + 2 t + 4 h t (1 - t) is h above the line from 1 to 3 in the middle."""
    tokens, places = np.array([2.0, 5.0, 3.0]), line_places()
    hill = lambda h: of_points(lambda t: 1 + 2 * t + 4 * h * t * (1 - t), places, tokens)  # noqa: E731
    found = barrier(places, hill(0.7), tokens)
    assert found.height.value == pytest.approx(0.7) and found.at == 0.5
    assert found.height.error == pytest.approx(0, abs=1e-12)
    valley = barrier(places, hill(-0.7), tokens)
    assert valley.height.value == 0 and valley.at == 0


def test_barrier_is_not_sought_beyond_the_ends():
    tokens, places = np.ones(3), line_places()
    bowl = of_points(lambda t: 100 * (t - 0.5) ** 2, places, tokens)
    assert barrier(places, bowl, tokens).height.value == 0


def test_contrast_has_the_error_of_a_ratio_that_the_bootstrap_finds():
    rng = np.random.default_rng(8)
    tokens = rng.integers(1, 30, 400).astype(float)
    hardness = rng.normal(3, 1, 400) * tokens
    losses = np.array([hardness + rng.normal(0, 1, 400), hardness + rng.normal(2, 1, 400)])
    found = contrast(losses, [1.0, -1.0], tokens)
    expected = (losses[0].sum() - losses[1].sum()) / tokens.sum()
    assert found.value == pytest.approx(expected)
    draws = rng.integers(0, 400, (2000, 400))
    resampled = (losses[0] - losses[1])[draws].sum(1) / tokens[draws].sum(1)
    assert found.error == pytest.approx(resampled.std(), rel=0.1)
    assert found.error < contrast(losses[:1], [1.0], tokens).error / 5  # paired


def test_gain_of_a_size_is_over_the_mean_single_member():
    rng = np.random.default_rng(1)
    tokens, singles, fused = np.ones(6), rng.normal(2, 1, (3, 6)), rng.normal(1, 1, (2, 6))
    found = gain_of_size(2, fused, singles, tokens)
    each = [row.mean() for row in fused]
    assert found.losses == pytest.approx(each)
    assert found.spread == pytest.approx(abs(each[0] - each[1]) / math.sqrt(2))
    assert found.gain.value == pytest.approx(singles.mean() - fused.mean())
    assert found.gain.error == pytest.approx(
        (singles.mean(0) - fused.mean(0)).std(ddof=1) / math.sqrt(6)
    )


def test_sides_of_the_triangle_are_points_of_the_lines():
    grid = triangle((2, 0, 3), 4)
    assert len(set(grid)) == len(grid) == (STEPS + 1) * (STEPS + 2) // 2 + 1
    assert all(sum(point) == pytest.approx(1) and point[1] == 0 for point in grid)
    for first, second in ((2, 0), (0, 3), (3, 2)):
        inside = {on_line(first, second, t, 4) for t in line_places() if 0 <= t <= 1}
        assert len(inside) == STEPS + 1 and inside <= set(grid)
    assert uniform((0, 2, 3), 4) in grid


def test_subsets_are_all_or_a_fixed_draw_of_different_ones():
    assert subsets_of(5, 3, 10) == list(combinations(range(5), 3))
    drawn = subsets_of(30, 15, 7)  # of 155 million
    assert len(set(drawn)) == 7 and drawn == subsets_of(30, 15, 7)
    assert all(len(set(one)) == 15 and list(one) == sorted(one) for one in drawn)
    assert len(subsets_of(9, 1, 2)) == 9


def test_plan_names_every_point_once_and_says_what_was_drawn():
    plan = make_plan((11, 42, 7), (0, 1, 2), 20)
    assert plan.singles == ["1*11", "1*42", "1*7"]
    sides, inner = 3 * (2 + STEPS - 1) + 3, (STEPS - 1) * (STEPS - 2) // 2 + 1
    assert len(plan.weights) == sides + inner + 4 * 6 - 3 - 1  # scale 1: seeds, centre
    assert plan.weights["0.25*11 + 0.75*7"] == (0.25, 0, 0.75)
    assert plan.notes() == []
    large = make_plan(range(8), (), 20)
    assert large.triangle == {} and len(large.lines) == 20
    assert large.notes()[:2] == [
        "lines between 20 of 28 pairs, drawn",
        "20 of 28 subsets of 2 seeds, drawn",
    ]


def test_names_tell_points_apart():
    assert name_of((0.0, 0.5, -0.25), (1, 2, 3)) == "0.5*2 + -0.25*3"
    assert name_of((0.0, 0.0), (1, 2)) == "0"

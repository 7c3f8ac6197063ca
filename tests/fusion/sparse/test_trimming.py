"""TIES, magnitude pruning, Breadcrumbs and SCE: by hand, NumPy, PEFT and mergekit."""

import numpy as np
import pytest
import torch
from mergekit.merge_methods.api import merge_tensors
from peft.utils import merge_utils

from lorafuse_jax.adapter import take
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.sparse.breadcrumbs import breadcrumbs
from lorafuse_jax.fusion.sparse.magnitude_pruning import magnitude_pruning
from lorafuse_jax.fusion.sparse.sce import sce
from lorafuse_jax.fusion.sparse.ties import ties
from lorafuse_jax.types import UserError
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
    repeat,
)
from tests.references import sparse as reference

FLOAT32 = 1e-5
# Of each member's six entries the three largest are 4 -6 3 | 5 -3 6 | 6 -4 -5.
FIRST = [[4, 1, -2], [0.5, -6, 3]]
SECOND = [[2, 5, -1], [-3, 6, 0.5]]
THIRD = [[6, -4, 1], [2, -3, -5]]
MEMBERS = members_of(FIRST, SECOND, THIRD)


@pytest.fixture
def rng():
    return np.random.default_rng(41)


def hand(fused):
    return dense(fused)["layers/m"][0]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # masses: 10, 1, -, -3, 0 (a tie), -2
        ({}, [[5, 5, 0], [-3, 0, -5]]),
        ({"factor": 0.5}, [[2.5, 2.5, 0], [-1.5, 0, -2.5]]),
        ({"average": "sum"}, [[10 / 3, 5 / 3, 0], [-1, 0, -5 / 3]]),
        ({"average": "count"}, [[5 / 3, 5 / 3, 0], [-1, 0, -5 / 3]]),
        ({"election": "count"}, [[5, 5, 0], [-3, 6, 3]]),
        ({"election": "mass_or_positive"}, [[5, 5, 0], [-3, 6, -5]]),
    ],
    ids=str,
)
def test_ties_of_a_hand_worked_example(settings, expected):
    np.testing.assert_allclose(hand(ties(MEMBERS, density=0.5, **settings)), expected, atol=1e-6)


def test_magnitude_pruning_of_a_hand_worked_example():
    expected = [[10 / 3, 1 / 3, 0], [-1, 0, -2 / 3]]
    fused = magnitude_pruning(MEMBERS, density=0.5)
    np.testing.assert_allclose(hand(fused), expected, atol=1e-6)


def test_breadcrumbs_of_a_hand_worked_example():
    # without the one largest of each: 4 3 | 5 -3 | -4 -5
    fused = breadcrumbs(MEMBERS, density=0.34, outliers=0.17)
    expected = [[4 / 3, 1 / 3, 0], [-1, 0, -2 / 3]]
    np.testing.assert_allclose(hand(fused), expected, atol=1e-6)


def test_sce_of_a_hand_worked_example():
    # two entries vary, the third most; the coefficients of its members are 25 and 81
    fused = sce(members_of([[3, 1, 5]], [[3, 2, 9]]), density=0.5)
    np.testing.assert_allclose(hand(fused), [[0, 0, (25 * 5 + 81 * 9) / 106]], rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "settings"),
    [
        (ties, {"density": 0.2}),
        (ties, {"density": 0.55, "factor": 1.7, "average": "count", "election": "count"}),
        (ties, {"density": 1.0, "average": "sum", "election": "unweighted_mass"}),
        (magnitude_pruning, {"density": 0.3}),
        (breadcrumbs, {"density": 0.143, "outliers": 0.05}),
        (breadcrumbs, {"density": 0.9, "outliers": 0.3, "factor": 0.4}),
        (sce, {"density": 1.0}),
        (sce, {"density": 0.25}),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_trimming_equals_the_reference(op, settings, rng):
    stacked, weights = random_members(rng, members=4), random_weights(rng, 4)
    fused = op(stacked, weights=weights, **settings)
    expected = by_layer(
        stacked, lambda taus: getattr(reference, op.name)(taus, weights, **settings)
    )
    assert_same(fused, expected, FLOAT32)


@pytest.mark.parametrize(
    ("method", "settings"),
    [("total", {"election": "unweighted_mass"}), ("frequency", {"election": "count"})],
)
def test_ties_as_in_peft_equals_peft(method, settings, rng):
    stacked, weights = random_members(rng), random_weights(rng)

    def theirs(taus):
        shares = torch.tensor(np.asarray(weights, np.float64))
        return merge_utils.ties(list(map(torch.tensor, taus)), shares, 0.3, method).numpy()

    fused = ties(stacked, weights=weights, density=0.3, average="count", **settings)
    assert_same(fused, by_layer(stacked, theirs), FLOAT32)


def test_magnitude_pruning_equals_peft(rng):
    stacked, weights = random_members(rng), random_weights(rng)

    def theirs(taus):
        shares = torch.tensor(np.asarray(weights, np.float64))
        return merge_utils.magnitude_prune(list(map(torch.tensor, taus)), shares, 0.3).numpy()

    fused = magnitude_pruning(stacked, weights=weights, density=0.3)
    assert_same(fused, by_layer(stacked, theirs), FLOAT32)


def by_mergekit(stacked, weights, method, **parameters):
    """mergekit's result over a base of zeros."""

    def theirs(taus):
        tensors = [torch.zeros(taus[0].shape, dtype=torch.float64), *map(torch.tensor, taus)]
        own = {"weight": [float(w) for w in weights]}
        return merge_tensors(tensors, method, parameters=own | parameters, base_index=0).numpy()

    return by_layer(stacked, theirs)


@pytest.mark.parametrize(("normalize", "average"), [(True, "weights"), (False, "sum")])
@pytest.mark.parametrize("weights", [[0.2, 0.5, 0.3], [0.9, -0.4, 0.5], [1.0, 0.0, 0.0]], ids=str)
def test_ties_equals_mergekit(weights, normalize, average, rng):
    """A member of negative weight votes for the other sign."""
    stacked = random_members(rng)
    theirs = by_mergekit(stacked, weights, "ties", density=0.3, normalize=normalize)
    fused = ties(stacked, weights=weights, density=0.3, average=average)
    assert_same(fused, theirs, FLOAT32)


def test_ties_equals_mergekit_where_masses_cancel(rng):
    """Small integers cancel often, and nothing is trimmed, as trimming would have to break ties."""
    stacked = members_of(*rng.integers(-2, 3, size=(4, 8, 9)))
    weights = [0.25] * 4
    settings = {"weights": weights, "density": 1.0}
    theirs = by_mergekit(stacked, weights, "ties", density=1.0)
    assert_same(ties(stacked, election="mass_or_positive", **settings), theirs, FLOAT32)
    differs = hand(ties(stacked, **settings)) != hand(ties(stacked, election="count", **settings))
    assert differs.any()


def test_breadcrumbs_equals_mergekit(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    theirs = by_mergekit(
        stacked, weights, "breadcrumbs", density=0.4, gamma=0.1, normalize=False, rescale=False
    )
    fused = breadcrumbs(stacked, weights=weights, density=0.4, outliers=0.1)
    assert_same(fused, theirs, FLOAT32)


@pytest.mark.parametrize("density", [1.0, 0.4])
def test_sce_equals_mergekit(density, rng):
    stacked = random_members(rng)

    def theirs(taus):
        tensors = [torch.zeros(taus[0].shape, dtype=torch.float64), *map(torch.tensor, taus)]
        parameters = {"select_topk": density}
        return merge_tensors(tensors, "sce", parameters=parameters, base_index=0).numpy()

    assert_same(sce(stacked, density=density), by_layer(stacked, theirs), FLOAT32)


def test_trimming_that_keeps_all_is_the_mean(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    plain = mean(stacked, weights=weights)
    assert_same(magnitude_pruning(stacked, weights=weights, density=1.0), plain, FLOAT32)
    assert_same(breadcrumbs(stacked, weights=weights, density=1.0, outliers=0.0), plain, FLOAT32)


def test_ties_of_identical_members_that_keeps_all_is_the_member(rng):
    stacked = repeat(random_members(rng), 3)
    assert_same(ties(stacked, density=1.0), take(stacked, 0), FLOAT32)


def test_breadcrumbs_without_outliers_is_magnitude_pruning(rng):
    stacked = random_members(rng)
    expected = magnitude_pruning(stacked, density=0.3)
    assert_same(breadcrumbs(stacked, density=0.3, outliers=0.0), expected, FLOAT32)


@pytest.mark.parametrize(
    ("op", "setting"),
    [
        (ties, "density"),
        (magnitude_pruning, "density"),
        (breadcrumbs, "outliers"),
        (sce, "density"),
    ],
)
def test_share_out_of_range_says_so(op, setting):
    with pytest.raises(UserError, match=rf"{op.name}: {setting} = 1.5 is not possible: .*\[0, 1\]"):
        op(MEMBERS, **{setting: 1.5})

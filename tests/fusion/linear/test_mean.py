"""The mean and its rescaled control."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import norm, take
from lorafuse_jax.fusion.control.scaled_mean import scaled_mean
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.types import LoraPair
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
)
from tests.references import soups

FLOAT32 = 1e-5  # a few roundings of 2**-24
TWO = {"layers/self_attn/q_proj": (9, 8), "layers/mlp/up_proj": (7, 12)}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_mean_of_a_hand_worked_example():
    fused = mean(members_of([[4, 1, -2], [0.5, -6, 3]], [[2, 5, -1], [3, 6, 0.5]]))
    np.testing.assert_allclose(
        dense(fused)["layers/m"],
        [[[3, 3, -1.5], [1.75, 0, 1.75]]],
        rtol=FLOAT32,
    )


def test_mean_equals_the_reference_and_stays_low_rank(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = mean(stacked, weights=weights)
    assert_same(fused, by_layer(stacked, lambda taus: soups.mean(taus, weights)), FLOAT32)
    assert all(pair[0].shape[-1] == 3 * 2 for pair in fused.values())


def test_mean_is_not_the_mean_of_the_factors(rng):
    stacked = random_members(rng)
    factors = {m: LoraPair(*(leaf.mean(0) for leaf in pair)) for m, pair in stacked.items()}
    with pytest.raises(AssertionError, match="relative error"):
        assert_same(mean(stacked), factors, 0.1)


def test_scaled_mean_of_a_hand_worked_example_has_the_mean_norm():
    fused = scaled_mean(members_of([[3, 0, 0], [0, 0, 0]], [[0, 4, 0], [0, 0, 0]]))
    np.testing.assert_allclose(
        dense(fused)["layers/m"],
        [[[2.1, 2.8, 0], [0, 0, 0]]],
        rtol=FLOAT32,
    )


@pytest.mark.parametrize("factor", [None, 1.3])
def test_scaled_mean_equals_the_reference(factor, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = scaled_mean(stacked, weights=weights, factor=factor)
    expected = by_layer(stacked, lambda taus: soups.scaled_mean(taus, weights, factor))
    assert_same(fused, expected, FLOAT32)


def test_scaled_mean_in_global_scope_matches_the_norm_of_the_whole_adapter(rng):
    stacked, weights = random_members(rng, shapes=TWO), random_weights(rng)
    fused = scaled_mean(stacked, weights=weights, scope="global")
    wanted = sum(w * norm(take(stacked, k)) for k, w in enumerate(weights))
    np.testing.assert_allclose(norm(fused), wanted, rtol=FLOAT32)
    plain = mean(stacked, weights=weights)
    one_factor = {m: norm({m: fused[m]}) / norm({m: plain[m]}) for m in TWO}
    np.testing.assert_allclose(*one_factor.values(), rtol=FLOAT32)


def test_scaled_mean_can_be_swept_over_its_factor_in_one_vmap(rng):
    stacked = random_members(rng)
    factors = jnp.array([0.5, 1.0, 2.0])
    swept = jax.vmap(lambda f: norm(scaled_mean(stacked, factor=f)))(factors)
    np.testing.assert_allclose(swept, factors * norm(mean(stacked)), rtol=FLOAT32)


def test_mean_of_nearly_orthogonal_members_shrinks_and_scaled_mean_does_not():
    members = random_members(np.random.default_rng(0), shapes={"layers/m": (96, 80)}, rank=4)
    single = norm(take(members, 0))
    # 1/sqrt(3), up to the overlap of random rank-4 members of this size, about 5 %
    np.testing.assert_allclose(norm(mean(members)) / single, 3**-0.5, rtol=0.08)
    np.testing.assert_allclose(norm(scaled_mean(members)) / single, 1, rtol=0.08)

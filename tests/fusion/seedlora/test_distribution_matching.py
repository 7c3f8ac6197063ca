"""Version 1 of SeedLoRA against a dense reference."""

import numpy as np
import pytest

from lorafuse_jax.fusion.seedlora.distribution_matching import distribution_matching
from lorafuse_jax.types import LoraPair, UserError
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
)
from tests.references import seedlora as reference

FLOAT32 = 2e-5  # variances from factors: a difference of two sums
TWO = {"layers/self_attn/q_proj": (9, 8), "layers/mlp/up_proj": (7, 12)}
FIRST, SECOND = [[1, 1, 1], [-1, -1, -1]], [[0, 0, 0], [6, 6, 6]]


@pytest.fixture
def rng():
    return np.random.default_rng(6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, [[-0.5] * 3, [3.5] * 3]), ({"reference": "best", "best": 1}, [[0] * 3, [6] * 3])],
)
def test_distribution_matching_of_a_hand_worked_example(settings, expected):
    fused = distribution_matching(members_of(FIRST, SECOND), **settings)
    np.testing.assert_allclose(dense(fused)["layers/m"][0], expected, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"reference": "best", "best": 2}])
def test_distribution_matching_equals_the_reference(settings, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = distribution_matching(stacked, weights=weights, **settings)
    expected = by_layer(
        stacked, lambda taus: reference.distribution_matching(taus, weights, **settings)
    )
    assert_same(fused, expected, FLOAT32)


def test_distribution_matching_is_exactly_a_pair_of_rank_sr_plus_one(rng):
    for pair in distribution_matching(random_members(rng)).values():
        assert isinstance(pair, LoraPair)
        assert pair.lora_a.shape[-1] == pair.lora_b.shape[-2] == 3 * 2 + 1


def test_distribution_matching_in_global_scope_uses_all_entries_together(rng):
    stacked, weights = random_members(rng, shapes=TWO), random_weights(rng)
    fused = distribution_matching(stacked, weights=weights, scope="global")
    flat = [np.concatenate([dense(stacked)[module][k].ravel() for module in TWO]) for k in range(3)]
    expected = reference.distribution_matching(flat, weights)
    actual = np.concatenate([dense(fused)[module].ravel() for module in TWO])
    np.testing.assert_allclose(actual, expected, atol=FLOAT32 * np.abs(expected).max())


def test_distribution_matching_of_constant_deltas_does_not_blow_up():
    fused = distribution_matching(members_of([[2, 2, 2], [2, 2, 2]], [[4, 4, 4], [4, 4, 4]]))
    np.testing.assert_allclose(dense(fused)["layers/m"], 3, rtol=1e-5)


@pytest.mark.parametrize("best", [None, 3, -1])
def test_distribution_matching_to_the_best_without_its_index_raises(best, rng):
    with pytest.raises(UserError, match=f"0 to 2; it is {best}"):
        distribution_matching(random_members(rng), reference="best", best=best)

"""Slerp, Karcher mean and Model Stock: by hand, against NumPy, and against mergekit."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mergekit.merge_methods.api import merge_tensors

from lorafuse_jax.adapter import norm, take
from lorafuse_jax.fusion.linear.karcher import karcher
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.linear.model_stock import model_stock
from lorafuse_jax.fusion.linear.slerp import slerp
from lorafuse_jax.types import LoraPair, UserError
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
    repeat,
)
from tests.references import soups

FLOAT32 = 2e-5  # angles from factors, and a few roundings
TWO = {"layers/self_attn/q_proj": (9, 8), "layers/mlp/up_proj": (7, 12)}
RIGHT_ANGLE = members_of([[3, 0], [0, 0]], [[0, 3], [0, 0]])
HALF = 2**-0.5


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def alike(rng, members=3):
    """Members with something in common, as seeds have."""
    stacked = random_members(rng, members=members)
    return {
        module: LoraPair(
            jnp.concatenate([pair.lora_a, jnp.repeat(pair.lora_a[:1], members, axis=0)], axis=-1),
            jnp.concatenate([pair.lora_b, jnp.repeat(pair.lora_b[:1], members, axis=0)], axis=-2),
        )
        for module, pair in stacked.items()
    }


def by_mergekit(stacked, method, **arguments):
    """mergekit's result for each layer, the deltas being the tensors."""

    def merged(taus):
        tensors = [torch.tensor(tau) for tau in taus]
        return merge_tensors(tensors, method, **arguments).numpy()

    return by_layer(stacked, merged)


@pytest.mark.parametrize("op", [slerp, karcher])
def test_arc_between_right_angles_keeps_the_norm(op):
    np.testing.assert_allclose(
        dense(op(RIGHT_ANGLE))["layers/m"][0], [[3 * HALF, 3 * HALF], [0, 0]], rtol=1e-5
    )


def test_slerp_goes_along_the_arc_by_the_share_of_the_weights():
    fused = slerp(RIGHT_ANGLE, weights=[2 / 3, 1 / 3])  # 30 degrees from the first
    np.testing.assert_allclose(
        dense(fused)["layers/m"][0], [[3 * 3**0.5 / 2, 1.5], [0, 0]], rtol=1e-5
    )


def test_model_stock_of_a_hand_worked_example():
    members = members_of([[1, 0], [0, 0]], [[1, 1], [0, 0]])  # cosine 1/sqrt(2)
    ratio = 2 * HALF / (1 + HALF)
    expected = [[ratio, ratio / 2], [0, 0]]
    np.testing.assert_allclose(dense(model_stock(members))["layers/m"][0], expected, rtol=1e-5)


def test_model_stock_of_orthogonal_members_is_the_base():
    assert norm(model_stock(RIGHT_ANGLE)) == 0


def test_model_stock_of_opposite_members_is_finite():
    assert norm(model_stock(members_of([[1, 0]], [[-1, 0]]))) == 0


@pytest.mark.parametrize(
    ("op", "members", "reference"),
    [
        (slerp, 2, soups.slerp),
        (karcher, 2, soups.karcher),
        (karcher, 4, soups.karcher),
        (model_stock, 4, soups.model_stock),
    ],
    ids=["slerp", "karcher 2", "karcher 4", "model_stock"],
)
def test_arc_equals_the_reference(op, members, reference, rng):
    stacked, weights = alike(rng, members), random_weights(rng, members)
    fused = op(stacked, weights=weights)
    assert_same(fused, by_layer(stacked, lambda taus: reference(taus, weights)), FLOAT32)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_slerp_equals_mergekit(share, rng):
    stacked = alike(rng, 2)
    fused = slerp(stacked, weights=[1 - share, share])
    theirs = by_mergekit(stacked, "slerp", parameters={"t": share}, base_index=0)
    assert_same(fused, theirs, FLOAT32)


def test_karcher_equals_mergekit(rng):
    stacked = alike(rng)
    theirs = by_mergekit(stacked, "karcher", parameters={"max_iter": 50})
    assert_same(karcher(stacked), theirs, 1e-4)  # they stop at 1e-5


def test_model_stock_equals_mergekit(rng):
    stacked = alike(rng)

    def merged(taus):
        tensors = [torch.zeros(taus[0].shape, dtype=torch.float64), *map(torch.tensor, taus)]
        return merge_tensors(tensors, "model_stock", base_index=0).numpy()

    assert_same(model_stock(stacked), by_layer(stacked, merged), FLOAT32)


def test_karcher_of_two_members_of_one_norm_is_slerp(rng):
    first = take(random_members(rng, members=1), 0)
    turned = {m: LoraPair(pair.lora_a[:, ::-1], pair.lora_b) for m, pair in first.items()}
    both = {m: LoraPair(*map(jnp.stack, zip(first[m], turned[m], strict=True))) for m in first}
    weights = random_weights(rng, 2)
    assert_same(karcher(both, weights=weights), slerp(both, weights=weights), FLOAT32)


def test_karcher_leaves_zero_members_out(rng):
    stacked = alike(rng)
    emptied = {m: LoraPair(p.lora_a, p.lora_b.at[1].set(0)) for m, p in stacked.items()}
    others = {m: LoraPair(*(leaf[jnp.array([0, 2])] for leaf in p)) for m, p in stacked.items()}
    expected = karcher(others, weights=[0.3, 0.5])
    assert_same(karcher(emptied, weights=[0.3, 0.2, 0.5]), expected, FLOAT32)


@pytest.mark.parametrize("op", [slerp, karcher, model_stock])
def test_arc_in_global_scope_takes_one_angle_for_all_modules(op, rng):
    stacked = random_members(rng, members=2, shapes=TWO)
    stacked = {m: LoraPair(*(leaf.at[1].add(leaf[0]) for leaf in p)) for m, p in stacked.items()}
    weights = random_weights(rng, 2)
    fused = op(stacked, weights=weights, scope="global")
    flat = [np.concatenate([dense(stacked)[m][k].ravel() for m in TWO]) for k in range(2)]
    expected = getattr(soups, op.name)(flat, weights)
    actual = np.concatenate([dense(fused)[m].ravel() for m in TWO])
    np.testing.assert_allclose(actual, expected, atol=FLOAT32 * np.abs(expected).max())


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_of_parallel_members_is_their_mean(sign, rng):
    stacked = repeat(random_members(rng), 2)
    stacked = {m: LoraPair(p.lora_a, p.lora_b.at[1].mul(2 * sign)) for m, p in stacked.items()}
    weights = random_weights(rng, 2)
    assert_same(slerp(stacked, weights=weights), mean(stacked, weights=weights), FLOAT32)


def test_slerp_of_three_members_says_two(rng):
    with pytest.raises(UserError, match="slerp fuses 2 members at most, not 3"):
        slerp(random_members(rng))

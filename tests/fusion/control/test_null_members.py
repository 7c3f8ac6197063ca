"""Members that have learned nothing, or not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import norm, take
from lorafuse_jax.fusion.control.null_members import random_members, shuffled_layers
from lorafuse_jax.fusion.control.scaled_member import scaled_member
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.linear.svd import svd
from lorafuse_jax.fusion.linear.task_arithmetic import task_arithmetic
from lorafuse_jax.fusion.seedlora import seedlora
from lorafuse_jax.types import LoraPair, UserError
from tests.fusion import members
from tests.fusion.members import assert_same, dense

FLOAT32 = 1e-5
ONLY_SECOND = [0.0, 1.0, 0.0]
MODULE = "layers/mlp/up_proj"


@pytest.fixture
def stacked():
    return members.random_members(np.random.default_rng(2), layers=5)


def test_random_member_has_the_norm_of_each_layer_and_nothing_else_of_the_member(stacked):
    fused = random_members(mean)(stacked, weights=ONLY_SECOND, key=jax.random.key(0))
    drawn, original = dense(fused)[MODULE], dense(stacked)[MODULE][1]
    for layer in range(5):
        size = np.linalg.norm(original[layer])
        np.testing.assert_allclose(np.linalg.norm(drawn[layer]), size, rtol=FLOAT32)
        cosine = (drawn[layer] * original[layer]).sum() / size**2
        assert abs(cosine) < 0.5


def test_random_members_of_zero_norm_are_zero(stacked):
    stacked = {m: LoraPair(p.lora_a, p.lora_b.at[1].set(0)) for m, p in stacked.items()}
    fused = random_members(mean)(stacked, weights=ONLY_SECOND, key=jax.random.key(0))
    assert norm(fused) == 0


def test_shuffled_layers_holds_the_members_own_layers_in_another_order(stacked):
    fused = shuffled_layers(mean)(stacked, weights=ONLY_SECOND, key=jax.random.key(1))
    given = {np.round(layer, 4).tobytes() for layer in dense(stacked)[MODULE][1] + 0.0}
    found = [np.round(layer, 4).tobytes() for layer in dense(fused)[MODULE] + 0.0]
    assert set(found) == given
    with pytest.raises(AssertionError, match="relative error"):
        assert_same(fused, take(stacked, 1), 0.1)


def test_shuffled_layers_orders_all_modules_of_a_member_alike(stacked):
    two = {"layers/a": stacked[MODULE], "layers/b": stacked[MODULE]}
    fused = shuffled_layers(mean)(two, key=jax.random.key(1))
    np.testing.assert_array_equal(dense(fused)["layers/a"], dense(fused)["layers/b"])


def test_shuffled_layers_orders_each_member_by_itself(stacked):
    alone = [
        dense(shuffled_layers(mean)(stacked, weights=w, key=jax.random.key(1)))[MODULE]
        for w in jnp.eye(3)
    ]
    own = dense(stacked)[MODULE]
    orders = [
        [int(np.argmin([np.abs(x - y).max() for y in own[k]])) for x in alone[k]] for k in range(3)
    ]
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize("control", [random_members, shuffled_layers])
def test_null_control_has_the_settings_of_its_operator(control, stacked):
    op = control(svd)
    assert op.name == f"{control.__name__}:svd"
    assert op.hyperparameters == svd.hyperparameters
    fused = op(stacked, rank=1, key=jax.random.key(0))
    assert fused[MODULE].lora_a.shape[-1] == 1
    with pytest.raises(UserError, match="needs a key"):
        op(stacked)


def test_null_control_of_a_stochastic_operator_gives_it_a_key_too(stacked):
    op = shuffled_layers(seedlora)
    first, second = (op(stacked, fuse="dare", key=jax.random.key(k)) for k in (0, 1))
    assert not np.array_equal(dense(first)[MODULE], dense(second)[MODULE])


def test_null_control_of_task_arithmetic_is_task_arithmetic_of_null_members(stacked):
    key = jax.random.key(4)
    summed = random_members(task_arithmetic)(stacked, key=key, factor=0.5)
    averaged = random_members(mean)(stacked, key=key)
    expected = {m: 1.5 * delta for m, delta in dense(averaged).items()}
    assert_same(summed, expected, FLOAT32)


def test_scaled_member_is_that_member_scaled(stacked):
    fused = scaled_member(stacked, member=2, factor=1.7)
    expected = {m: 1.7 * delta[2] for m, delta in dense(stacked).items()}
    assert_same(fused, expected, FLOAT32)


@pytest.mark.parametrize("member", [-1, 3])
def test_scaled_member_that_is_not_there_says_which_are(member, stacked):
    with pytest.raises(UserError, match=f"member = {member}; there are 0 to 2"):
        scaled_member(stacked, member=member)

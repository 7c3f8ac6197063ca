"""Fisher merging and RegMean, and the statistics they need."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.fusion.learned import fisher, fisher_information, regmean
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.types import DenseDelta, LoraPair, UserError
from tests.fusion.members import assert_same, dense, members_of, random_members, random_weights
from tests.references import learned as reference

FLOAT32 = 2e-5
MODULE = "layers/mlp/up_proj"


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_fisher_of_a_hand_worked_example():
    members = members_of([[4, 0]], [[0, 8]])
    information = jnp.array([[[3.0, 0.0]], [[1.0, 0.0]]])[:, None]
    fused = fisher(members, statistic={"layers/m": information})
    # 3/4 of 4; of the second entry nobody knows anything: the mean of 0 and 8
    np.testing.assert_allclose(dense(fused)["layers/m"][0], [[3, 4]], rtol=1e-6)


def test_fisher_equals_the_reference(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    information = rng.exponential(size=(3, 2, 9, 12)).astype(np.float32)
    information[:, 0, 2, 3] = 0
    fused = fisher(stacked, weights=weights, statistic={MODULE: jnp.asarray(information)})
    deltas = dense(stacked)[MODULE]
    expected = [
        reference.fisher(list(deltas[:, layer]), weights, list(information[:, layer]))
        for layer in range(2)
    ]
    assert_same(fused, {MODULE: np.stack(expected)}, FLOAT32)


def test_fisher_information_of_a_linear_regression_is_the_square_of_its_gradient(rng):
    pair = LoraPair(*(leaf[0] for leaf in random_members(rng)[MODULE]))
    inputs = rng.normal(size=(4, 2, 9)).astype(np.float32)

    def log_likelihood(adapter, example):
        update = adapter[MODULE]
        assert isinstance(update, DenseDelta)
        return -0.5 * jnp.sum(jnp.einsum("li,lio->lo", example, update.delta) ** 2)

    found = fisher_information(log_likelihood, {MODULE: pair}, list(jnp.asarray(inputs)))
    deltas = dense({MODULE: pair})[MODULE]
    gradients = [[np.outer(x[k], x[k] @ deltas[k]) for k in range(2)] for x in inputs]
    np.testing.assert_allclose(found[MODULE], np.square(gradients).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("off_diagonal", [1.0, 0.9, 0.0])
def test_regmean_equals_the_reference(off_diagonal, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    inputs = rng.normal(size=(3, 2, 30, 9))
    grams = jnp.asarray(inputs.swapaxes(-1, -2) @ inputs, jnp.float32)
    statistic = {MODULE: grams}
    fused = regmean(stacked, weights=weights, statistic=statistic, off_diagonal=off_diagonal)
    deltas = dense(stacked)[MODULE]
    expected = [
        reference.regmean(list(deltas[:, layer]), weights, list(inputs[:, layer]), off_diagonal)
        for layer in range(2)
    ]
    assert_same(fused, {MODULE: np.stack(expected)}, 1e-4)
    assert fused[MODULE].lora_a.shape[-1] == 6


def test_regmean_gives_each_member_its_own_features(rng):
    """Members whose inputs never meet are each followed where their inputs are."""
    stacked = random_members(rng, members=2, layers=1)
    grams = np.zeros((2, 1, 9, 9), np.float32)
    grams[0, 0, :4, :4] = np.eye(4)
    grams[1, 0, 4:, 4:] = np.eye(5)
    fused = regmean(stacked, statistic={MODULE: jnp.asarray(grams)})
    deltas = dense(stacked)[MODULE]
    expected = np.concatenate([deltas[0, :, :4], deltas[1, :, 4:]], axis=1)
    assert_same(fused, {MODULE: expected}, 1e-4)


def test_regmean_of_alike_inputs_is_the_mean(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    rows = rng.normal(size=(30, 9))
    grams = jnp.broadcast_to(jnp.asarray(rows.T @ rows, jnp.float32), (3, 2, 9, 9))
    fused = regmean(stacked, weights=weights, statistic={MODULE: grams})
    assert_same(fused, mean(stacked, weights=weights), 1e-4)


def test_regmean_gradient_is_that_of_finite_differences(rng):
    """The inverse is taken as given and refined; the gradient must not miss it."""
    stacked, weights = random_members(rng, layers=1), random_weights(rng)
    inputs = rng.normal(size=(3, 1, 30, 9))
    statistic = {MODULE: jnp.asarray(inputs.swapaxes(-1, -2) @ inputs, jnp.float32)}

    @jax.jit
    def energy(weights):
        pair = regmean(stacked, weights=weights, statistic=statistic)[MODULE]
        return jnp.sum((pair.lora_a @ pair.lora_b) ** 2)

    gradient = jax.grad(energy)(weights)
    for member in range(3):
        step = jnp.zeros(3).at[member].set(1e-2)
        difference = (energy(weights + step) - energy(weights - step)) / 2e-2
        np.testing.assert_allclose(gradient[member], difference, rtol=2e-2)


@pytest.mark.parametrize(
    ("statistic", "message"),
    [
        (None, r"regmean needs statistic=.module: Gram matrices of the inputs, \[S, L, I, I\]"),
        ({}, "the statistic lacks module layers/mlp/up_proj"),
        ({MODULE: jnp.ones((2, 2, 9, 9))}, r"has shape \[2, 2, 9, 9\], the members have .* \[3, 2"),
    ],
)
def test_statistic_that_does_not_fit_is_refused(statistic, message, rng):
    with pytest.raises(UserError, match=message):
        regmean(random_members(rng), statistic=statistic)


def test_statistic_that_nobody_needs_is_refused(rng):
    with pytest.raises(UserError, match="mean takes no statistic"):
        mean(random_members(rng), statistic={})

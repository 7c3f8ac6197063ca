"""Weighted sums of members with shared factors, against the combined adapter of each point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapted import batch_log_probs, mixture_log_probs
from lorafuse_jax.adapter import combine, stack, to_delta
from lorafuse_jax.fusion import OPERATORS
from lorafuse_jax.lora import adaptable_modules
from lorafuse_jax.mixture import read_coefficients, side_by_side
from lorafuse_jax.types import EMBEDDING, ENDS, HEAD, LoraPair
from tests.tiny import random_adapter, random_dense, tiny_config, tiny_params
from tests.torch_twin import batch

ROUNDING = 2e-4


@pytest.fixture(scope="module")
def config():
    return tiny_config()


def with_ends(params, seed, size):
    """Of the layers, the embedding and the output head."""
    adapter, rng = random_adapter(params, seed=seed, size=size), np.random.default_rng(seed)
    vocabulary, width = params[EMBEDDING]["embedding"].shape
    shapes = {EMBEDDING: (vocabulary, width), HEAD: (width, vocabulary)}
    for module, (fan_in, fan_out) in shapes.items():
        factors = (rng.normal(size=(1, fan_in, 2)), rng.normal(size=(1, 2, fan_out)))
        adapter[module] = LoraPair(*(jnp.asarray(size * one, jnp.float32) for one in factors))
    return adapter


def dense_with_ends(params, seed, size):
    """The same, of full rank."""
    return random_dense(params, seed, size) | to_delta(
        {m: u for m, u in with_ends(params, seed, 2 * size).items() if m in ENDS}
    )


@pytest.mark.parametrize("make", [random_adapter, random_dense, with_ends, dense_with_ends])
def test_every_point_scores_as_its_combined_adapter(config, make):
    params = tiny_params(config)
    stacked = stack([make(params, seed=seed, size=0.2) for seed in range(3)])
    points = np.random.default_rng(5).normal(size=(4, 3))
    coefficients = {
        module: jnp.broadcast_to(points[:, None], (4, update[0].shape[1], 3))
        for module, update in stacked.items()
    }
    scored = jax.vmap(
        lambda own: mixture_log_probs(config, params, side_by_side(stacked), own, batch())
    )(coefficients)
    for point, found in zip(points, scored, strict=True):
        fused = combine(stacked, jnp.asarray(point))
        expected = batch_log_probs(config, params, fused, batch(), rules=())
        np.testing.assert_allclose(found, expected, atol=ROUNDING)
    assert np.ptp(np.asarray(scored), axis=0).max() > 100 * ROUNDING


def test_layers_and_modules_have_their_own_coefficients(config):
    params, rng = tiny_params(config), np.random.default_rng(6)
    stacked = stack([random_adapter(params, seed=seed, size=0.2) for seed in range(2)])
    own = {m: jnp.asarray(rng.normal(size=(config.num_layers, 2))) for m in stacked}
    found = mixture_log_probs(config, params, side_by_side(stacked), own, batch())
    weighed = {
        m: LoraPair(pair.lora_a, pair.lora_b * own[m].T[..., None, None])
        for m, pair in stacked.items()
    }
    fused = combine(weighed, jnp.ones(2))
    expected = batch_log_probs(config, params, fused, batch(), rules=())
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


@pytest.mark.parametrize("name", ["mean", "scaled_mean", "karcher", "model_stock", "ties", "svd"])
def test_weights_are_read_off_operators_that_only_weigh(config, name):
    params = tiny_params(config)
    assert len(adaptable_modules(params)) == 7
    members = stack([random_adapter(params, seed=seed) for seed in range(3)])
    fused = OPERATORS[name](members)
    for module, update in fused.items():
        weights, is_sum = read_coefficients(update, members[module])
        assert bool(is_sum) == (name not in ("ties", "svd"))
        if is_sum:
            delta = np.einsum(
                "ls,slir,slro->lio", weights, members[module].lora_a, members[module].lora_b
            )
            expected = np.asarray(update.lora_a @ update.lora_b)
            np.testing.assert_allclose(delta, expected, atol=1e-5 * np.abs(expected).max())


def test_a_sum_of_other_factors_is_not_taken_for_one(config):
    """Every entry of B of its own weight: not a member's weight."""
    members = stack([random_adapter(tiny_params(config), seed=seed) for seed in range(2)])
    module, pair = next(iter(members.items()))
    fused = OPERATORS["mean"]({module: pair})[module]
    bent = fused._replace(lora_b=fused.lora_b * jnp.linspace(0.9, 1.1, fused.lora_b.shape[-1]))
    assert read_coefficients(fused, pair)[1]
    assert not read_coefficients(bent, pair)[1]

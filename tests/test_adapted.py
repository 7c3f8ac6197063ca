"""What the adapted model tells of its inputs, and learning through it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapted import forward, input_grams
from lorafuse_jax.adapter import stack, to_delta
from lorafuse_jax.fusion.learned import learn_weights, regmean
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.models.families import llama
from lorafuse_jax.models.hub import Model
from tests.tiny import random_adapter, tiny_config, tiny_params

ROUNDING = 1e-4


@pytest.fixture(scope="module")
def model():
    config = tiny_config()
    return Model(
        config=config,
        params=tiny_params(config),
        tokenizer=None,
        path=Path("."),
        fingerprint="",
        stop_tokens=(0,),
        family=llama,
    )


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(4).integers(0, 97, (3, 11)))


def inputs_of_the_first_layer(model, tokens):
    """The normalised embeddings, [B, T, D]."""
    embedded = model.params["embed_tokens"]["embedding"][tokens]
    scale = model.params["layers"]["input_layernorm"]["scale"][0]
    x = np.asarray(embedded, np.float64)
    rms = np.sqrt((x**2).mean(-1, keepdims=True) + model.config.norm_eps)
    return x / rms * np.asarray(scale)


def test_input_gram_of_the_first_projection_is_that_of_the_normalised_embeddings(model, tokens):
    adapter = random_adapter(model.params, rank=2)
    counted = jnp.ones(tokens.shape, bool).at[1, 6:].set(False)
    grams = input_grams(model, adapter, tokens, counted)
    rows = inputs_of_the_first_layer(model, tokens)[np.asarray(counted)]
    for name in ("q_proj", "k_proj", "v_proj"):
        found = grams[f"layers/self_attn/{name}"]
        assert found.shape == (2, 16, 16)
        np.testing.assert_allclose(found[0], rows.T @ rows, rtol=ROUNDING, atol=ROUNDING)


def test_regmean_with_one_members_inputs_follows_that_member(model, tokens):
    """A member whose inputs weigh a million times more is what the model then computes with."""
    members = stack([random_adapter(model.params, seed=seed, rank=2) for seed in range(2)])
    first = jax.tree.map(lambda leaf: leaf[0], members)
    grams = input_grams(model, first, jnp.tile(tokens, (4, 1)))
    statistic = {m: jnp.stack([g, 1e-6 * g]) for m, g in grams.items()}
    fused = regmean(members, statistic=statistic, off_diagonal=1.0)
    ours, theirs, other = (
        forward(model, model.params, adapter, tokens) for adapter in (fused, first, mean(members))
    )
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(other - theirs).max()


def test_learned_weights_lower_the_loss_of_a_model(model, tokens):
    members = stack([random_adapter(model.params, seed=seed, rank=2) for seed in range(3)])

    def loss(adapter, batch):
        logits = forward(model, model.params, adapter, batch[:, :-1])
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch[:, 1:, None], axis=-1)
        return -chosen.mean()

    found = learn_weights(mean, members, loss, [tokens], steps=8, learning_rate=0.05)
    assert found.losses[-1] < found.losses[0]
    assert loss(found.adapter, tokens) < loss(to_delta(mean(members)), tokens)

"""The head: log-probabilities in chunks, with and without a gradient to the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.models import head
from lorafuse_jax.models.head import token_log_probs
from tests.tiny import tiny_config

COUNT = 300
"""Of tokens: more than two chunks, and no multiple of one."""


def drawn(config):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(COUNT, config.model_dim)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, config.vocab_size, COUNT))
    shape = (config.vocab_size, config.model_dim)
    table = jnp.asarray(rng.normal(size=shape), jnp.float32)
    if config.tie_embeddings:
        return {"embed_tokens": {"embedding": table}}, hidden, targets
    return {"lm_head": {"kernel": table.T}}, hidden, targets


def plain(config, params, hidden, targets):
    """All logits at once, differentiated by JAX alone."""
    tied = config.tie_embeddings
    kernel = params["embed_tokens"]["embedding"].T if tied else params["lm_head"]["kernel"]
    logits = hidden @ kernel
    if config.logit_softcap is not None:
        logits = config.logit_softcap * jnp.tanh(logits / config.logit_softcap)
    return jax.nn.log_softmax(logits)[jnp.arange(COUNT), targets]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_trained_head_gets_the_gradient_of_the_plain_softmax(tied, softcap):
    config = tiny_config(tie_embeddings=tied, logit_softcap=softcap)
    params, hidden, targets = drawn(config)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=COUNT), jnp.float32)

    def total(log_probs):
        return lambda params, hidden: (log_probs(params, hidden) * weights).sum()

    ours = total(lambda p, h: token_log_probs(config, p, h, targets, train_head=True))
    reference = total(lambda p, h: plain(config, p, h, targets))
    for mine, other in zip(
        jax.tree.leaves(jax.value_and_grad(ours, argnums=(0, 1))(params, hidden)),
        jax.tree.leaves(jax.value_and_grad(reference, argnums=(0, 1))(params, hidden)),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, atol=1e-4 * float(jnp.abs(other).max()))


def test_trained_head_never_has_all_logits():
    config = tiny_config()
    params, hidden, targets = drawn(config)

    def total(params):
        return token_log_probs(config, params, hidden, targets, train_head=True).sum()

    lowered = jax.jit(jax.grad(total)).lower(params).as_text()
    assert f"tensor<{COUNT}x{config.vocab_size}xf32>" not in lowered
    chunks = -(-COUNT // head.CHUNK)
    assert f"tensor<{chunks}x{-(-COUNT // chunks)}x{config.vocab_size}xf32>" not in lowered


def test_frozen_head_gets_no_gradient():
    config = tiny_config()
    params, hidden, targets = drawn(config)
    grads = jax.grad(lambda p: token_log_probs(config, p, hidden, targets).sum())(params)
    assert not np.asarray(grads["embed_tokens"]["embedding"]).any()

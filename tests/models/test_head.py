"""The head: log-probabilities in chunks, with and without a gradient to the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.models import head
from lorafuse_jax.models.head import HeadHook, output_logits, score_tokens, token_log_probs
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


def change(factors):
    """A low-rank change of the head's kernel, as a hook, and as the kernel that it makes."""
    lora_a, lora_b = factors
    return HeadHook(lambda h: (h @ lora_a,), (lora_b,))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_change_of_the_head_has_the_gradient_of_the_plain_softmax(tied, softcap):
    config = tiny_config(tie_embeddings=tied, logit_softcap=softcap)
    params, hidden, targets = drawn(config)
    rng = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    factors, weights = (draw(16, 3), draw(3, config.vocab_size)), draw(COUNT)

    def ours(factors, hidden):
        found = token_log_probs(config, params, hidden, targets, hook=change(factors))
        return (found * weights).sum()

    def reference(factors, hidden):
        kernel = params["embed_tokens"]["embedding"].T if tied else params["lm_head"]["kernel"]
        changed = {"lm_head": {"kernel": kernel + factors[0] @ factors[1]}}
        untied = tiny_config(tie_embeddings=False, logit_softcap=softcap)
        return (plain(untied, changed, hidden, targets) * weights).sum()

    for mine, other in zip(
        jax.tree.leaves(jax.value_and_grad(ours, argnums=(0, 1))(factors, hidden)),
        jax.tree.leaves(jax.value_and_grad(reference, argnums=(0, 1))(factors, hidden)),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, atol=1e-4 * float(jnp.abs(other).max()))

    hook = change(factors)
    log_probs, best = score_tokens(config, params, hidden, targets, hook)
    logits = output_logits(config, params, hidden, hook)
    expected = jax.nn.log_softmax(logits)[jnp.arange(COUNT), targets]
    np.testing.assert_allclose(log_probs, expected, atol=1e-4)
    np.testing.assert_array_equal(best, logits.argmax(-1) == targets)


@pytest.mark.parametrize("members", [None, 2])
def test_changed_head_never_has_all_logits(members):
    """Nor does any other array with a row a token and a column a word, alone or over members."""
    config = tiny_config()
    params, hidden, targets = drawn(config)
    factors = (jnp.ones((16, 3)), jnp.ones((3, config.vocab_size)))

    def total(factors):
        return token_log_probs(config, params, hidden, targets, hook=change(factors)).sum()

    grad = jax.grad(total)
    if members:
        factors = jax.tree.map(lambda leaf: jnp.stack([leaf] * members), factors)
        grad = jax.vmap(grad)
    lowered = jax.jit(grad).lower(factors).as_text()
    count, chunks = members or 1, -(-COUNT // head.CHUNK)
    size = -(-COUNT // chunks)
    assert f"{size}x{config.vocab_size}xf32>" in lowered
    for tokens in (f"{COUNT}", f"{chunks}x{size}", f"{chunks}x{count}x{size}"):
        assert f"{tokens}x{config.vocab_size}xf32>" not in lowered


def test_change_of_a_frozen_head_gives_the_head_no_gradient():
    config = tiny_config()
    params, hidden, targets = drawn(config)
    hook = change((jnp.ones((16, 3)), jnp.ones((3, config.vocab_size))))
    grads = jax.grad(lambda p: token_log_probs(config, p, hidden, targets, hook=hook).sum())(params)
    assert not np.asarray(grads["embed_tokens"]["embedding"]).any()

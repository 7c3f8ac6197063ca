"""The output head: logits, and log-probabilities of chosen tokens without holding all logits.

While the head is frozen, the gradient of a log-probability with respect to the hidden state,
``head[target] - softmax @ head``, is had chunk by chunk in the forward pass: logits are never kept
and never computed twice.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.types import Params

CHUNK = 128
"""Tokens (of one seed, under vmap) whose logits exist at the same time."""


def head_table(config: DecoderConfig, params: Params) -> Float[Array, "V D"]:
    """The output embedding: the input embedding if they are tied."""
    if config.tie_embeddings:
        return params["embed_tokens"]["embedding"]
    return params["lm_head"]["kernel"].T


def output_logits(
    config: DecoderConfig, params: Params, hidden: Float[Array, "*B D"]
) -> Float[Array, "*B V"]:
    """Logits in float32."""
    table = head_table(config, params)
    return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)


def token_log_probs(
    config: DecoderConfig, params: Params, hidden: Float[Array, "M D"], targets: Int[Array, " M"]
) -> Float[Array, " M"]:
    """``log softmax(logits)[target]`` of each token in nats, float32.

    Differentiable in ``hidden`` alone: the head is frozen and gets no gradient.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        hidden: final hidden states of the tokens to score.
        targets: the token that each should predict.
    """
    return _log_probs(hidden, head_table(config, params), targets)


@jax.custom_vjp
def _log_probs(hidden: Array, head: Array, targets: Array) -> Array:
    return _in_chunks(lambda h, t: _chunk(h, head, t)[0], hidden, targets)


def _chunk(hidden: Array, head: Array, targets: Array) -> tuple[Array, Array]:
    logits = jnp.einsum("md,vd->mv", hidden, head, preferred_element_type=jnp.float32)
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return chosen - normalizer, jnp.exp(logits - normalizer[:, None])


def _forward(hidden: Array, head: Array, targets: Array) -> tuple[Array, Array]:
    def chunk(h, t):
        log_probs, softmax = _chunk(h, head, t)
        return log_probs, head[t] - softmax.astype(head.dtype) @ head

    log_probs, slope = _in_chunks(chunk, hidden, targets)
    return log_probs, slope.astype(hidden.dtype)


def _backward(slope: Array, cotangent: Array) -> tuple[Array, None, None]:
    return cotangent[:, None].astype(slope.dtype) * slope, None, None


_log_probs.defvjp(_forward, _backward)


def _in_chunks(function: Callable, hidden: Array, targets: Array):
    count = hidden.shape[0]
    chunks = -(-count // CHUNK)
    size = -(-count // chunks)
    padding = chunks * size - count
    hidden = jnp.pad(hidden, ((0, padding), (0, 0))).reshape(chunks, size, -1)
    targets = jnp.pad(targets, (0, padding)).reshape(chunks, size)
    result = jax.lax.map(lambda pair: function(*pair), (hidden, targets))
    return jax.tree.map(lambda leaf: leaf.reshape(chunks * size, *leaf.shape[2:])[:count], result)

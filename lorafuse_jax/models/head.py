"""The output head: logits, and log-probabilities of chosen tokens without holding all logits.

While the head is frozen, the gradient of a log-probability with respect to the hidden state,
``head[target] - softmax @ head``, is had chunk by chunk in the forward pass: logits are never kept
and never computed twice. Where the head or a change to it is trained too, they are computed twice,
chunk by chunk: the gradient of a kernel needs the tokens' weights, which come after them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.parallel.inside import gathered
from lorafuse_jax.types import Params

CHUNK = 128
"""Tokens (of one seed, under vmap) whose logits exist at the same time."""


class HeadHook(NamedTuple):
    """A change to the head's projection, made from outside: ``h W`` becomes ``[h, f] [W; K]``.

    The head's input gets further features, and its kernel their rows. Features are narrow and made
    for all tokens at once; what is as wide as the vocabulary exists for a chunk of tokens.

    Attributes:
        features: from hidden states [*B, D], arrays [*B, F], with any number F of each.
        kernels: as many arrays [F, V].
    """

    features: Callable[[Array], tuple[Array, ...]]
    kernels: tuple[Array, ...]


class _Head(NamedTuple):
    """How logits come from a table; hashable, so that a custom gradient may close over it."""

    tied: bool
    softcap: float | None

    def logits(
        self,
        table: Array,
        hidden: Array,
        features: Sequence[Array] = (),
        kernels: Sequence[Array] = (),
    ) -> Array:
        spec = "...d,vd->...v" if self.tied else "...d,dv->...v"
        logits = jnp.einsum(spec, hidden, table, preferred_element_type=jnp.float32)
        for own, kernel in zip(features, kernels, strict=True):
            kernel = kernel.astype(own.dtype)
            logits += jnp.matmul(own, kernel, preferred_element_type=jnp.float32)
        return logits if self.softcap is None else self.softcap * jnp.tanh(logits / self.softcap)

    def back(self, table: Array, logits: Array, cotangent: Array) -> Array:
        """What a cotangent of the logits is for the hidden states."""
        if self.softcap is not None:
            cotangent = cotangent * (1 - (logits / self.softcap) ** 2)
        spec = "mv,vd->md" if self.tied else "mv,dv->md"
        return jnp.einsum(spec, cotangent.astype(table.dtype), table)


def output_logits(
    config: DecoderConfig,
    params: Params,
    hidden: Float[Array, "*B D"],
    hook: HeadHook | None = None,
) -> Float[Array, "*B V"]:
    """Logits in float32."""
    head, table = _head_of(config, params)
    return head.logits(table, hidden, *_added(hook, hidden))


def token_log_probs(
    config: DecoderConfig,
    params: Params,
    hidden: Float[Array, "M D"],
    targets: Int[Array, " M"],
    *,
    hook: HeadHook | None = None,
    train_head: bool = False,
) -> Float[Array, " M"]:
    """``log softmax(logits)[target]`` of each token in nats, float32.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        hidden: final hidden states of the tokens to score.
        targets: the token that each should predict.
        hook: a change to the head; differentiable in it, while the head itself is frozen.
        train_head: differentiable in the head too: a chunk's logits are then computed again in the
            backward pass. Otherwise the head is frozen and gets no gradient.
    """
    head, table = _head_of(config, params)
    if hook is None and not train_head:
        return _log_probs(head, hidden, table, targets)
    if not train_head:
        table = jax.lax.stop_gradient(table)
    features, kernels = _added(hook, hidden)

    # Converted inside a chunk, so that the chunks' gradients add up in the kernels' own precision.
    def chunk(inputs, t):
        h, f = inputs
        return _chosen(head.logits(table.astype(h.dtype), h, f, kernels), t)[0]

    return _in_chunks(jax.checkpoint(chunk), (hidden, features), targets)


def score_tokens(
    config: DecoderConfig,
    params: Params,
    hidden: Float[Array, "M D"],
    targets: Int[Array, " M"],
    hook: HeadHook | None = None,
) -> tuple[Float[Array, " M"], Bool[Array, " M"]]:
    """As ``token_log_probs``, and whether the target is what greedy decoding would choose."""
    head, table = _head_of(config, params)
    features, kernels = _added(hook, hidden)

    def chunk(inputs, t):
        h, f = inputs
        logits = head.logits(table, h, f, kernels)
        return _chosen(logits, t)[0], jnp.argmax(logits, axis=-1) == t

    return _in_chunks(chunk, (hidden, features), targets)


def score_together(
    config: DecoderConfig,
    params: Params,
    hidden: Float[Array, "M S D"],
    targets: Int[Array, " M"],
    hook: HeadHook | None = None,
) -> tuple[Float[Array, " M"], Bool[Array, " M"]]:
    """As ``score_tokens``, by the mean of the logits that S models have for each token.

    That is the normalised mean of their log-probabilities: what the models' own normalisers add is
    the same for all tokens.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        hidden: final hidden states of each model.
        targets: the token that each place should predict.
        hook: a change to the head, for the rows of ``hidden`` one after the other [M * S, D].
    """
    head, table = _head_of(config, params)
    count, models, width = hidden.shape
    features, kernels = _added(hook, hidden.reshape(-1, width))

    def chunk(inputs, t):
        h, f = jax.tree.map(lambda rows: rows.reshape(t.shape[0] * models, -1), inputs)
        logits = head.logits(table, h, f, kernels).reshape(t.shape[0], models, -1).mean(axis=1)
        return _chosen(logits, t)[0], jnp.argmax(logits, axis=-1) == t

    rows = jax.tree.map(lambda leaf: leaf.reshape(count, -1), (hidden, features))
    return _in_chunks(chunk, rows, targets, max(1, CHUNK // models))


def _added(hook: HeadHook | None, hidden: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Features of these tokens, and their kernels."""
    return ((), ()) if hook is None else (hook.features(hidden), hook.kernels)


def _head_of(config: DecoderConfig, params: Params) -> tuple[_Head, Array]:
    tied = config.tie_embeddings
    part, leaf = ("embed_tokens", "embedding") if tied else ("lm_head", "kernel")
    return _Head(tied, config.logit_softcap), gathered(params[part], config.units, part)[leaf]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_probs(head: _Head, hidden: Array, table: Array, targets: Array) -> Array:
    return _in_chunks(lambda h, t: _chosen(head.logits(table, h), t)[0], hidden, targets)


def _chosen(logits: Array, targets: Array) -> tuple[Array, Array]:
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return chosen - normalizer, normalizer


def _forward(head: _Head, hidden: Array, table: Array, targets: Array) -> tuple[Array, Array]:
    def chunk(h, t):
        logits = head.logits(table, h)
        log_probs, normalizer = _chosen(logits, t)
        target = jnp.arange(logits.shape[-1]) == t[:, None]
        slope = target - jnp.exp(logits - normalizer[:, None])
        return log_probs, head.back(table, logits, slope)

    log_probs, slope = _in_chunks(chunk, hidden, targets)
    return log_probs, slope.astype(hidden.dtype)


def _backward(head: _Head, slope: Array, cotangent: Array) -> tuple[Array, None, None]:
    return cotangent[:, None].astype(slope.dtype) * slope, None, None


_log_probs.defvjp(_forward, _backward)


def _in_chunks(function: Callable, inputs: Any, targets: Array, most: int = CHUNK):
    count = targets.shape[0]
    chunks = -(-count // most)
    size = -(-count // chunks)
    padding = chunks * size - count

    def part(rows: Array) -> Array:
        return jnp.pad(rows, ((0, padding), (0, 0))).reshape(chunks, size, -1)

    inputs = jax.tree.map(part, inputs)
    targets = jnp.pad(targets, (0, padding)).reshape(chunks, size)
    result = jax.lax.map(lambda pair: function(*pair), (inputs, targets))
    return jax.tree.map(lambda leaf: leaf.reshape(chunks * size, *leaf.shape[2:])[:count], result)

"""The next token from logits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32


class Sampling(NamedTuple):
    """Settings of each row; see ``Request``. ``key`` is the data of a key made of its seed."""

    key: UInt32[Array, "R words"]
    temperature: Float[Array, " R"]
    top_p: Float[Array, " R"]
    min_p: Float[Array, " R"]


def key_data(seeds: UInt32[Array, " R"]) -> UInt32[Array, "R words"]:
    """Of the key that each row's seed makes."""
    return jax.random.key_data(jax.vmap(jax.random.key)(seeds))


class Choice(NamedTuple):
    """What a program has to provide for; static, because a sort over V is not free.

    Attributes:
        sampled: some row has a temperature.
        nucleus: some row has a top_p below 1.
        ensemble: 0, or the number of members whose logits are averaged.
    """

    sampled: bool
    nucleus: bool
    ensemble: int


def choose(
    logits: Float[Array, "R V"], sampling: Sampling, drawn: Int[Array, " R"], choice: Choice
) -> Int[Array, " R"]:
    """The next token of each row.

    An ensemble's members see the mean of their logits (2310.00035), and so choose the same.

    Args:
        logits: member by member, if they are an ensemble.
        sampling: of each row.
        drawn: how many tokens each row has drawn before.
        choice: what has to be provided for.
    """
    if choice.ensemble:
        by_member = logits.reshape(choice.ensemble, -1, logits.shape[-1])
        mean = by_member.mean(axis=0, keepdims=True)
        logits = jnp.broadcast_to(mean, by_member.shape).reshape(logits.shape)
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if not choice.sampled:
        return greedy
    keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(sampling.key), drawn)
    scaled = logits / jnp.maximum(sampling.temperature, 1e-6)[:, None]
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(keys)
    kept = kept_tokens(scaled, sampling.top_p, sampling.min_p, nucleus=choice.nucleus)
    drawn_token = jnp.argmax(jnp.where(kept, scaled + noise, -jnp.inf), axis=-1)
    return jnp.where(sampling.temperature > 0, drawn_token, greedy).astype(jnp.int32)


def kept_tokens(
    logits: Float[Array, "R V"],
    top_p: Float[Array, " R"],
    min_p: Float[Array, " R"],
    *,
    nucleus: bool,
) -> Array:
    """Which tokens top_p and, of these, min_p leave; the most likely one always."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    kept = log_probs >= log_probs.max(axis=-1, keepdims=True) + jnp.log(min_p)[:, None]
    if not nucleus:
        return kept
    falling = -jnp.sort(-log_probs, axis=-1)
    before = jnp.cumsum(jnp.exp(falling), axis=-1) - jnp.exp(falling)
    inside = jnp.where(before < top_p[:, None], falling, jnp.inf)
    return kept & (log_probs >= inside.min(axis=-1, keepdims=True))

"""The key/value cache of batched decoding."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lorafuse_jax.models.config import DecoderConfig


class Cache(NamedTuple):
    """Keys and values of every layer, one slot a token, the same slot for all rows.

    Rows of different length are padded on the left, so that all of them write the same slot at each
    step; ``filled`` says which slots hold a real token of which row.
    """

    keys: Float[Array, "L B K C H"]
    values: Float[Array, "L B K C H"]
    filled: Bool[Array, "B C"]
    length: Int[Array, ""]


def empty_cache(config: DecoderConfig, rows: int, slots: int, dtype=jnp.float32) -> Cache:
    """A cache for ``rows`` sequences of at most ``slots`` tokens each, padding included."""
    shape = (config.num_layers, rows, config.num_kv_heads, slots, config.head_dim)
    return Cache(
        keys=jnp.zeros(shape, dtype),
        values=jnp.zeros(shape, dtype),
        filled=jnp.zeros((rows, slots), bool),
        length=jnp.zeros((), jnp.int32),
    )

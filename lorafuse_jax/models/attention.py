"""Rotary positions and grouped-query attention."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from lorafuse_jax.models.config import LinearScaling, Llama3Scaling, Rope


def rope_frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Angular frequencies [H/2] in radians a token, scaled as ``rope`` says."""
    frequencies = rope.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    match rope.scaling:
        case None:
            pass
        case LinearScaling(factor=factor):
            frequencies = frequencies / factor
        case Llama3Scaling() as scaling:
            wavelength = 2 * math.pi / frequencies
            turns = scaling.original_context_length / wavelength
            span = scaling.high_freq_factor - scaling.low_freq_factor
            kept = np.clip((turns - scaling.low_freq_factor) / span, 0.0, 1.0)
            frequencies = frequencies * (kept + (1 - kept) / scaling.factor)
    return frequencies.astype(np.float32)


def rotate(
    x: Float[Array, "B T N H"], positions: Int[Array, "B T"], frequencies: np.ndarray
) -> Float[Array, "B T N H"]:
    """Rotate the two halves of each head by the angle of its position (always in float32)."""
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


@partial(jax.checkpoint, prevent_cse=False)
def attend(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B K C H"],
    values: Float[Array, "B K C H"],
    visible: Bool[Array, "B T C"],
) -> Float[Array, "B T N H"]:
    """Softmax attention; the G = N/K query heads of a key head become rows of one matrix product.

    So keys are never repeated, and a batched product has B x K members of G x T rows, large enough
    to run near the machine's matrix speed. A query that sees nothing gets a uniform, finite result.
    In a backward pass the weights are computed again: storing [T, C] for every head and layer, and
    reading it back, costs more than the product itself.
    """
    batch, time, heads, head_dim = queries.shape
    kv_heads = keys.shape[1]
    groups = heads // kv_heads
    grouped = queries.reshape(batch, time, kv_heads, groups, head_dim)
    rows = grouped.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, groups * time, head_dim)
    scores = jax.lax.dot_general(
        rows * head_dim**-0.5,
        keys,
        (((3,), (3,)), ((0, 1), (0, 1))),
        preferred_element_type=jnp.float32,
    ).reshape(batch, kv_heads, groups, time, -1)
    scores = jnp.where(visible[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    mixed = jax.lax.dot_general(
        weights.reshape(batch, kv_heads, groups * time, -1),
        values,
        (((3,), (2,)), ((0, 1), (0, 1))),
    ).reshape(batch, kv_heads, groups, time, head_dim)
    return mixed.transpose(0, 3, 1, 2, 4).reshape(batch, time, heads, head_dim)

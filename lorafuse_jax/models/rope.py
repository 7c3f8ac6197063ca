"""Rotary positions."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lorafuse_jax.models.config import FrequencyFactors, LinearScaling, Llama3Scaling, Rope


def rope_frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Angular frequencies [H/2] in radians a token, scaled as ``rope`` says."""
    frequencies = rope.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    match rope.scaling:
        case None:
            pass
        case LinearScaling(factor=factor):
            frequencies = frequencies / factor
        case FrequencyFactors(factors=factors):
            frequencies = frequencies / np.array(factors)
        case Llama3Scaling() as scaling:
            wavelength = 2 * math.pi / frequencies
            turns = scaling.original_context_length / wavelength
            span = scaling.high_freq_factor - scaling.low_freq_factor
            kept = np.clip((turns - scaling.low_freq_factor) / span, 0.0, 1.0)
            frequencies = frequencies * (kept + (1 - kept) / scaling.factor)
    return frequencies.astype(np.float32)


def rotation(rope: Rope, head_dim: int, positions: Int[Array, "B T"]) -> tuple[Array, Array]:
    """Cosine and sine [B, T, 1, H/2] of the angles of these positions, float32."""
    angles = positions[..., None, None].astype(jnp.float32) * rope_frequencies(rope, head_dim)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, "B T N H"], turn: tuple[Array, Array]) -> Float[Array, "B T N H"]:
    """Rotate the two halves of each head (always in float32)."""
    cos, sin = turn
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)

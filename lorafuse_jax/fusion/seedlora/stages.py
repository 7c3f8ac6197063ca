"""The two stages of SeedLoRA, for one module of one layer.

Gradients in the weights take every choice (which entries are large, which sign wins, which
subspace) as given: choices are flat between their jumps, and the derivative of singular vectors is
infinite where members are identical.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from lorafuse_jax.adapter import concat_pair
from lorafuse_jax.adapter_spectral import core_svd, leading_svd
from lorafuse_jax.fusion.entries import by_member, mean_of_kept, over_members
from lorafuse_jax.fusion.hyperparameters import Real
from lorafuse_jax.fusion.quantile import magnitude_quantile
from lorafuse_jax.types import LoraPair


class Settled(NamedTuple):
    """What stage 1 decides: which entries, and their values (zero elsewhere)."""

    where: Bool[Array, "..."]
    values: Float[Array, "..."]


class Subspace(NamedTuple):
    """Orthonormal bases of fan-in and fan-out: the paper's V and U, our kernels being [I, O]."""

    left: Float[Array, "I K"]
    right: Float[Array, "K O"]


def settle_large_entries(
    deltas: Float[Array, "S ..."],
    weights: Float[Array, " S"],
    thresholds: Float[Array, " S"],
    *,
    minimum_large: int,
    tie: Literal["sum", "drop"],
) -> Settled:
    """Stage 1: where members are large, the mean of the large ones of the majority sign.

    The mean is over those members alone, so it does not shrink as the plain mean does. Members of
    weight zero do not take part.
    """
    share, least = (by_member(x, deltas.ndim) for x in (weights, thresholds))
    large = (jnp.abs(deltas) >= least) & (deltas != 0) & (share != 0)
    positive = over_members((large & (deltas > 0)).astype(jnp.int32))
    negative = over_members((large & (deltas < 0)).astype(jnp.int32))
    sign = jnp.sign(positive - negative)
    if tie == "sum":
        weighted = jnp.where(large, share * deltas, 0)
        up, down = (over_members(jnp.maximum(side, 0)) for side in (weighted, -weighted))
        # compared, not subtracted: a fused multiply-add makes 6 w - 6 w a rounding error of 6 w
        sign = jnp.where(sign == 0, (up > down) * 1 - (up < down) * 1, sign)
    kept = large & (jnp.sign(deltas) == sign)
    where = (positive + negative >= minimum_large) & (sign != 0)
    return Settled(where, jnp.where(where, mean_of_kept(deltas, kept, weights), 0))


def subspace_of_mean(pair: LoraPair, weights: Float[Array, " S"], size: int) -> Subspace:
    """The leading singular vectors of ``sum_s w_s delta_s``, from the factors."""
    u, _, vt = core_svd(jax.lax.stop_gradient(concat_pair(pair, weights)))
    return Subspace(u[:, :size], vt[:size])


def subspace_of_dense(mean: Float[Array, "I O"], size: int) -> Subspace:
    """The same for a dense mean; see ``adapter_spectral.leading_svd``."""
    u, _, vt = leading_svd(jax.lax.stop_gradient(mean), size)
    return Subspace(u, vt)


def fuse_mean(
    coordinates: Float[Array, "S K K"], weights: Float[Array, " S"]
) -> Float[Array, "K K"]:
    """The weighted sum."""
    return jnp.einsum("s,skj->kj", weights, coordinates)


def fuse_ties(
    coordinates: Float[Array, "S K K"], weights: Float[Array, " S"], density: Real
) -> Float[Array, "K K"]:
    """TIES (arXiv:2306.01708, algorithm 1): trim, elect the sign, mean of those who have it."""
    thresholds = jax.vmap(magnitude_quantile, in_axes=(0, None))(coordinates, 1 - density)
    trimmed = jnp.where(jnp.abs(coordinates) >= thresholds[:, None, None], coordinates, 0)
    sign = jnp.sign(jnp.einsum("s,skj->kj", weights, trimmed))
    kept = (jnp.sign(trimmed) == sign) & (sign != 0)
    return mean_of_kept(trimmed, kept, weights)


def fuse_dare(
    coordinates: Float[Array, "S K K"], weights: Float[Array, " S"], drop: Real, key: Key[Array, ""]
) -> Float[Array, "K K"]:
    """DARE (arXiv:2311.03099): drop at random, rescale by ``1 / (1 - drop)``, weighted sum."""
    kept = jax.random.bernoulli(key, 1 - drop, coordinates.shape)
    return fuse_mean(jnp.where(kept, coordinates / (1 - drop), 0), weights)

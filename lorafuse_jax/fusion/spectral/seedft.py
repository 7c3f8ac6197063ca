"""SeedFT: a subspace of all members, and one orthonormal set of coordinates for all of them."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.adapter_spectral import core_svd
from lorafuse_jax.fusion.hyperparameters import check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.spectral.bases import is_there, polar_factor, stacked_svd
from lorafuse_jax.types import LoraPair

SLACK = 1e-4
"""A tenth of 30 directions is 3, although ``0.1 * 3 * 10`` is above it."""


@operator(
    source="SeedFT, ICLR 2026 submission (openreview XPxfT3ttAi)",
    lift="module",
    identity_for_one=False,
)
def seedft(
    pair: LoraPair, *, weights: Float[Array, " S"], share: float = 0.5, rescale: bool = True
) -> LoraPair:
    """``U diag(s) P(sum_s w_s V_s)^T``, from ``[D_1|..|D_S] = U diag(s) [V_1^T|..|V_S^T]``.

    Only the leading ``share`` of the directions is kept, of which there are as many as the ranks of
    the members add up to: S * R, less what is padding. P is the nearest matrix with orthonormal
    columns (Procrustes). The D_s are the paper's [O, I] matrices, ours transposed.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member. Gradients see their sum alone: P does not change with it.
        share: of the directions, in [0, 1]; at least one is kept.
        rescale: divide by sqrt(S). An orthonormal V has S times the squared norm of the V_s, so
            that identical members come back only so.

    Departures: ``rescale`` is not in the paper; known from its abstract and notes.
    """
    check_share("seedft: share", share)
    members, _, rank = pair.lora_a.shape
    given = jax.lax.stop_gradient(pair)
    most = max(1, math.ceil(share * members * rank - SLACK))
    rows = stacked_svd(given)
    directions = jax.vmap(is_there)(jax.vmap(core_svd)(given)[1]).sum()
    kept = jnp.arange(rows.singular[:most].shape[0]) < jnp.ceil(share * directions - SLACK)
    kept = kept.at[0].set(True)
    together = jnp.einsum(
        "s,sir,srk->ik",
        jax.lax.stop_gradient(weights),
        rows.coordinates.lora_a,
        rows.coordinates.lora_b[..., :most] * kept,
    )
    # P turns with the sign of the weights, so that their sum must not do so again
    size = jnp.abs(weights.sum()) / (jnp.sqrt(members) if rescale else 1)
    singular = size * kept * rows.singular[:most]
    return LoraPair(polar_factor(together) * singular, rows.basis[:most])

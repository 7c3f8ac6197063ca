"""Magnitude pruning: the weighted sum of each member's largest entries."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.entries import density_thresholds, fuse_rows
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import DenseDelta, LoraPair


@operator(
    source="PEFT add_weighted_adapter(combination_type='magnitude_prune'), on deltas",
    lift="module",
    stream=True,
    fixed_point=False,
    identity_for_one=False,
)
def magnitude_pruning(
    pair: LoraPair, *, weights: Float[Array, " S"], density: Real = 0.2
) -> DenseDelta:
    """``sum_s w_s x_s``, ``x_s`` the ``density * I * O`` largest entries of ``delta_s``, else 0.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        density: share of each member's entries that is kept, in [0, 1], at least one entry.

    Departures: PEFT prunes the factors, or with ``_svd`` the deltas, as here.
    """
    check_share("magnitude_pruning: density", density)
    thresholds = density_thresholds(pair, density)[:, None]

    def fuse_row(row: Float[Array, "S O"]) -> Float[Array, " O"]:
        return weights @ jnp.where(jnp.abs(row) >= thresholds, row, 0)

    return DenseDelta(fuse_rows(pair, fuse_row))

"""SCE: select entries by variance, calculate a coefficient a member, erase minority signs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lorafuse_jax.fusion.entries import fuse_rows, mean_of_kept
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.quantile import magnitude_at
from lorafuse_jax.types import DenseDelta, LoraPair


@operator(source="arXiv:2408.07990 (FuseChat), section 3.3 (SCE)", lift="module", stream=True)
def sce(pair: LoraPair, *, weights: Float[Array, " S"], density: Real = 1.0) -> DenseDelta:
    """Average, entry by entry, the members of the majority sign, by how much they moved.

    Select: of the entries that members disagree on, the share ``density`` with the largest variance
    over members. Calculate: ``c_s = sum_j x_s(j)^2`` over the selected. Erase: where
    ``sum_s x_s(j)`` has the other sign. ``sum(w) * sum_kept w_s c_s x_s / sum_kept w_s c_s``.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member; the paper has none.
        density: share of the selected, in [0, 1]; 1 selects all, also where members agree.

    Departures: coefficients of a module of a layer, as the paper's of a matrix. mergekit's sign
    where the sum is exactly zero is positive; ours leaves zero. mergekit takes equal coefficients
    where the members' mean squares sum to less than 1e-6, which deltas of adapters easily do; ours
    do not depend on the scale.
    """
    check_share("sce: density", density)
    selected = _selection(pair, density)
    here = jnp.where(weights == 0, 0, 1)

    def squares(row: Float[Array, "S O"], where: Bool[Array, " O"]) -> Float[Array, " S"]:
        return jnp.where(where, row**2, 0).sum(-1)

    moved = jax.lax.stop_gradient(fuse_rows(pair, squares, selected).sum(0))
    nobody = (here * moved).sum() == 0
    coefficients = jnp.where(nobody, 1.0, moved)

    def fuse_row(row: Float[Array, "S O"], where: Bool[Array, " O"]) -> Float[Array, " O"]:
        values = jnp.where(where, row, 0)
        sign = jnp.sign(here @ values)
        kept = (jnp.sign(values) == sign) & (values != 0)
        shares = weights * coefficients
        mean = mean_of_kept(values, kept, shares)
        total = shares.sum()
        return weights.sum() * mean / jnp.where(total == 0, 1, total)

    return DenseDelta(fuse_rows(pair, fuse_row, selected))


def _selection(pair: LoraPair, density: Real) -> Bool[Array, "I O"]:
    """The largest ``floor(density * n)`` of the n variances that are not zero."""
    variance = fuse_rows(jax.lax.stop_gradient(pair), lambda row: jnp.var(row, axis=0))
    varied = jnp.sum(variance > 0, dtype=jnp.int32)
    count = jnp.floor(density * varied).astype(jnp.int32)
    place = jnp.clip(variance.size - count, 0, variance.size - 1)
    largest = (variance >= magnitude_at(variance, place)) & (count > 0)
    return largest | (jnp.asarray(density) >= 1)

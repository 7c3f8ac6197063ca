"""Model Breadcrumbs: the weighted sum without each member's outliers and its noise."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.entries import fuse_rows, member_thresholds
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.quantile import magnitude_at, share_of
from lorafuse_jax.types import DenseDelta, LoraPair


@operator(
    source="arXiv:2312.06795 (Model Breadcrumbs), section 3",
    lift="module",
    stream=True,
    fixed_point=False,
    identity_for_one=False,
)
def breadcrumbs(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    density: Real = 0.143,
    outliers: Real = 0.007,
    factor: Real = 1.0,
) -> DenseDelta:
    """``factor * sum_s w_s m_s delta_s``: m_s leaves out the largest and the smallest entries.

    Of the n = I * O entries of a member in order of magnitude, the ``floor(outliers * n)`` largest
    are left out, the ``floor(density * n)`` below them are kept, and the rest is left out.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        density: share that is kept, in [0, 1]; it goes before ``outliers`` where both together
            would be more than all.
        outliers: share of the largest that is left out, in [0, 1].
        factor: the paper's alpha.

    Departures: none; its beta = 85 % and gamma = 99.3 % are the defaults. mergekit has its own
    (density 1, gamma 0.01), and turns everything off at density 1; ours then keeps all too.
    """
    check_share("breadcrumbs: density", density)
    check_share("breadcrumbs: outliers", outliers)
    size = pair.lora_a.shape[-2] * pair.lora_b.shape[-1]
    kept = share_of(density, size)
    lowest = jnp.maximum(size - kept - share_of(outliers, size), 0)  # place of the smallest kept
    above = lowest + kept  # place of the smallest outlier; size where there is none

    def at(place: Array) -> Array:
        inside = jnp.clip(place, 0, size - 1)
        return member_thresholds(pair, lambda delta: magnitude_at(delta, inside))[:, None]

    low, high = at(lowest), jnp.where(above >= size, jnp.inf, at(above))

    def fuse_row(row: Float[Array, "S O"]) -> Float[Array, " O"]:
        magnitudes = jnp.abs(row)
        return weights @ jnp.where((magnitudes >= low) & (magnitudes < high), factor * row, 0)

    return DenseDelta(fuse_rows(pair, fuse_row))

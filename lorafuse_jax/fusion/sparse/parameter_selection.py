"""Parameter selection: every entry from one member, chosen at random."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lorafuse_jax.fusion.entries import fuse_rows, member_quantiles, row_keys
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import DenseDelta, LoraPair, UserError


@operator(
    source="arXiv:2410.03743 (parameter-selection merging)",
    lift="module",
    stream=True,
    stochastic=True,
    permutation_invariant=False,
)
def parameter_selection(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    key: Key[Array, ""],
    resamples: int = 0,
    untouched: Real = 0.0,
) -> DenseDelta:
    """``sum(w) * delta_k(j)`` with member k drawn for each entry j with probability ``w_k``.

    With resampling, an entry that the drawn member left as it was in the base is drawn again, up to
    ``resamples`` times.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member; a negative one is never drawn.
        key: of the draws.
        resamples: how often to draw again, 0 or more.
        untouched: an entry counts as left if ``|delta_s|`` is at or below this quantile of the
            member's magnitudes, in [0, 1]; 0 means exactly zero.

    Raises:
        UserError: ``resamples`` is negative.

    Departures: the paper merges full models, in which an untouched parameter is one that did not
    change; a low-rank delta is hardly ever exactly zero, hence the quantile. Gradients in the
    weights see their sum alone.
    """
    check_share("parameter_selection: untouched", untouched)
    if resamples < 0:
        raise UserError(f"parameter_selection: resamples = {resamples}: expected 0 or more")
    limit = jnp.where(jnp.asarray(untouched) > 0, member_quantiles(pair, untouched), 0)
    chances = jnp.maximum(jax.lax.stop_gradient(weights), 0)
    bounds = jnp.cumsum(chances) / jnp.maximum(chances.sum(), jnp.finfo(chances.dtype).tiny)

    def fuse_row(row: Float[Array, "S O"], row_key: Key[Array, ""]) -> Float[Array, " O"]:
        picked = jnp.zeros(row.shape[-1])
        left = jnp.ones(row.shape[-1], bool)
        for draw in jax.random.split(row_key, 1 + resamples):
            uniform = jax.random.uniform(draw, row.shape[-1:])
            member = jnp.searchsorted(bounds, uniform, side="right")
            member = jnp.minimum(member, row.shape[0] - 1)
            drawn = jnp.take_along_axis(row, member[None], axis=0)[0]
            picked = jnp.where(left, drawn, picked)
            left &= jnp.abs(drawn) <= limit[member]
        return weights.sum() * picked

    return DenseDelta(fuse_rows(pair, fuse_row, row_keys(key, pair)))

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
    """``sum(w) * delta_k(j)``, member k drawn for each entry j with probability ``w_k / sum(w)``.

    With resampling, an entry that the drawn member left as it was in the base is drawn again, from
    all members, up to ``resamples`` times. Without, the expectation is ``sum_s w_s delta_s``.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member; in general ``sum_s |w_s| * sign(w_k) * delta_k(j)`` with probability
            ``|w_k| / sum_s |w_s|``.
        key: of the draws.
        resamples: how often to draw again, 0 or more.
        untouched: an entry counts as left if ``|delta_s|`` is at or below this quantile of the
            member's magnitudes, in [0, 1]; 0 means exactly zero.

    Raises:
        UserError: ``resamples`` is negative.

    Departures: the paper merges full models, in which an untouched parameter is one that did not
    change; a low-rank delta is hardly ever exactly zero, hence the quantile. Gradients in the
    weights see the sum of their magnitudes alone.
    """
    check_share("parameter_selection: untouched", untouched)
    if resamples < 0:
        raise UserError(f"parameter_selection: resamples = {resamples}: expected 0 or more")
    # member_quantiles are a few roundings low; an entry that is at the quantile counts as untouched
    quantiles = member_quantiles(pair, untouched) * (1 + 2**-19)
    limit = jnp.where(jnp.asarray(untouched) > 0, quantiles, 0)
    sizes, signs = jnp.abs(weights), jnp.sign(jax.lax.stop_gradient(weights))
    bounds = jnp.cumsum(jax.lax.stop_gradient(sizes))
    bounds /= jnp.maximum(bounds[-1], jnp.finfo(bounds.dtype).tiny)

    def fuse_row(row: Float[Array, "S O"], row_key: Key[Array, ""]) -> Float[Array, " O"]:
        def draw(state: tuple[Array, Array], draw_key: Array) -> tuple[tuple[Array, Array], None]:
            picked, left = state
            uniform = jax.random.uniform(draw_key, row.shape[-1:])
            member = jnp.searchsorted(bounds, uniform, side="right")
            member = jnp.minimum(member, row.shape[0] - 1)
            drawn = jnp.take_along_axis(row, member[None], axis=0)[0]
            picked = jnp.where(left, signs[member] * drawn, picked)
            return (picked, left & (jnp.abs(drawn) <= limit[member])), None

        nothing = (jnp.zeros(row.shape[-1]), jnp.ones(row.shape[-1], bool))
        (picked, _), _ = jax.lax.scan(draw, nothing, jax.random.split(row_key, 1 + resamples))
        return sizes.sum() * picked

    return DenseDelta(fuse_rows(pair, fuse_row, row_keys(key, pair)))

"""TIES: trim, elect sign, merge."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.entries import density_thresholds, fuse_rows
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.sparse.consensus import Average, Election, consensus
from lorafuse_jax.types import DenseDelta, LoraPair


@operator(
    source="arXiv:2306.01708 (TIES), algorithm 1",
    lift="module",
    stream=True,
    fixed_point=False,
    identity_for_one=False,
)
def ties(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    density: Real = 0.2,
    factor: Real = 1.0,
    election: Election = "mass",
    average: Average = "weights",
) -> DenseDelta:
    """Keep each member's largest entries, elect a sign by mass, average those who have it.

    ``factor * sum(w) * sum_kept w_s x_s / sum_kept w_s`` with ``x_s = delta_s`` where
    ``|delta_s|`` is among its ``density * I * O`` largest, else 0, and kept the members whose
    ``w_s x_s`` has the sign of ``sum_s w_s x_s``.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        density: share of each member's entries that is kept, in [0, 1], at least one entry.
        factor: the paper's lambda.
        election: see ``consensus``.
        average: see ``consensus``.

    Departures: the paper trims over the whole model, this over one module of one layer, as PEFT
    and mergekit do; it has no weights. Where masses cancel exactly nobody is elected; the authors'
    code then takes the sign that most entries have. PEFT's ``ties`` is
    ``election="unweighted_mass", average="count"``, its ``majority_sign_method="frequency"`` is
    ``election="count"``. mergekit's is ``election="mass_or_positive"`` for weights with sum 1, and
    with ``average="sum"`` its ``normalize=False`` for any.
    """
    check_share("ties: density", density)
    thresholds = density_thresholds(pair, density)[:, None]

    def fuse_row(row: Float[Array, "S O"]) -> Float[Array, " O"]:
        trimmed = jnp.where(jnp.abs(row) >= thresholds, row, 0)
        return factor * consensus(trimmed, weights, election=election, average=average)

    return DenseDelta(fuse_rows(pair, fuse_row))

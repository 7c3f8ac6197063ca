"""TIES' second and third step: elect a sign for every entry, average the members that have it."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.entries import by_member, mean_of_kept, over_members

Election = Literal["mass", "mass_or_positive", "unweighted_mass", "count"]
"""The sign of ``sum_s w_s x_s`` (twice), of ``sum_s x_s``, or that of more members.

A tie of the first elects nobody; of the others it elects the positive, as in mergekit (the second)
and PEFT (the last two). By mass a member of negative weight votes for the other sign, and one of
weight zero does not take part."""

Average = Literal["weights", "count", "sum"]
"""``sum(w) sum w x / sum w`` over the elected, ``sum w x`` over their number (PEFT), or not at all
averaged (mergekit with normalize off)."""


def consensus(
    values: Float[Array, "S ..."],
    weights: Float[Array, " S"],
    *,
    election: Election = "mass",
    average: Average = "weights",
) -> Float[Array, "..."]:
    """The average of the members whose sign is elected; zero where nobody is.

    Args:
        values: entries of all members, zero where they were trimmed.
        weights: one a member.
        election: how the sign is found.
        average: how the elected are averaged.
    """
    shares = by_member(weights, values.ndim)
    votes = shares * values if election in ("mass", "mass_or_positive") else values
    sides = jnp.sign(votes)
    total = over_members(sides if election == "count" else votes)
    sign = jnp.sign(total) if election == "mass" else jnp.where(total >= 0, 1, -1)
    kept = (sides == sign) & (sides != 0)
    if average == "weights":
        return mean_of_kept(values, kept, weights)
    total = over_members(jnp.where(kept, shares * values, 0))
    count = over_members(kept.astype(values.dtype))
    return total / jnp.maximum(count, 1) if average == "count" else total

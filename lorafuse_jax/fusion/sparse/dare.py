"""DARE: drop entries at random, rescale the others; alone, or with TIES' election after it."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lorafuse_jax.fusion.entries import fuse_rows, row_keys
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.sparse.consensus import Average, Election, consensus
from lorafuse_jax.types import DenseDelta, LoraPair

Rescale = Literal["expectation", "l1"]
"""By ``1 / (1 - drop)``, which keeps the expectation, or to each delta's l1 norm (mergekit)."""


@operator(
    source="arXiv:2311.03099 (DARE), equation 2",
    lift="module",
    stream=True,
    stochastic=True,
    fixed_point=False,
    identity_for_one=False,
    permutation_invariant=False,
)
def dare(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    key: Key[Array, ""],
    drop: Real = 0.5,
    rescale: Rescale = "expectation",
) -> DenseDelta:
    """``sum_s w_s m_s delta_s / (1 - drop)``, each m_s(j) zero with probability ``drop``, else 1.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        key: of the masks.
        drop: probability in [0, 1). The paper goes up to 0.9 and above.
        rescale: see ``Rescale``.

    Departures: none; PEFT's ``dare_linear`` on deltas is the same with ``density = 1 - drop``.
    mergekit's is ``rescale="l1"``, unless told not to rescale.
    """
    check_share("dare: drop", drop, below_one=True)
    keys, scales = row_keys(key, pair), _scales(pair, key, drop, rescale)

    def fuse_row(row: Float[Array, "S O"], row_key: Key[Array, ""]) -> Float[Array, " O"]:
        return (weights * scales) @ _dropped(row, row_key, drop)

    return DenseDelta(fuse_rows(pair, fuse_row, keys))


@operator(
    source="arXiv:2311.03099 (DARE), with arXiv:2306.01708 (TIES)",
    lift="module",
    stream=True,
    stochastic=True,
    fixed_point=False,
    identity_for_one=False,
    permutation_invariant=False,
)
def dare_ties(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    key: Key[Array, ""],
    drop: Real = 0.5,
    rescale: Rescale = "expectation",
    election: Election = "mass",
    average: Average = "weights",
) -> DenseDelta:
    """DARE's random dropping in the place of TIES' trimming, then election and average.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        key: of the masks.
        drop: probability in [0, 1).
        rescale: see ``Rescale``.
        election: see ``consensus``.
        average: see ``consensus``.

    Departures: the average is over those elected that were not dropped, so that its expectation is
    above the members'; PEFT (``election="unweighted_mass", average="count"``) does the same.
    mergekit's is ``rescale="l1", election="mass_or_positive", average="sum"``: by default it
    rescales and does not normalize.
    """
    check_share("dare_ties: drop", drop, below_one=True)
    keys, scales = row_keys(key, pair), _scales(pair, key, drop, rescale)

    def fuse_row(row: Float[Array, "S O"], row_key: Key[Array, ""]) -> Float[Array, " O"]:
        dropped = scales[:, None] * _dropped(row, row_key, drop)
        return consensus(dropped, weights, election=election, average=average)

    return DenseDelta(fuse_rows(pair, fuse_row, keys))


def _dropped(row: Float[Array, "S O"], row_key: Key[Array, ""], drop: Real) -> Array:
    return jnp.where(jax.random.bernoulli(row_key, 1 - drop, row.shape), row, 0)


def _scales(
    pair: LoraPair, key: Key[Array, ""], drop: Real, rescale: Rescale
) -> Float[Array, " S"]:
    if rescale == "expectation":
        return jnp.full(pair.lora_a.shape[0], 1 / (1 - drop))

    def l1_norms(row: Float[Array, "S O"], row_key: Key[Array, ""]) -> Float[Array, "2 S"]:
        both = jnp.stack([row, _dropped(row, row_key, drop)])
        return jnp.abs(both).sum(-1)

    before, after = fuse_rows(pair, l1_norms, row_keys(key, pair)).sum(0)
    return jnp.where(after == 0, 1, before / jnp.where(after == 0, 1, after))

"""DELLA: drop entries at random, small ones more often; then TIES' election."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lorafuse_jax.fusion.entries import fuse_rows, row_keys
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.sparse.consensus import Average, Election, consensus
from lorafuse_jax.types import DenseDelta, LoraPair, UserError


@operator(
    source="arXiv:2406.11617 (DELLA), section 2",
    lift="module",
    stream=True,
    stochastic=True,
    fixed_point=False,
    identity_for_one=False,
    permutation_invariant=False,
)
def della(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    key: Key[Array, ""],
    drop: Real = 0.5,
    window: Real = 0.2,
    factor: Real = 1.0,
    rescale: Literal["expectation", "l1"] = "expectation",
    election: Election = "mass",
    average: Average = "weights",
) -> DenseDelta:
    """Drop with probability ``p_j`` by rank of magnitude, rescale by ``1 / (1 - p_j)``, elect.

    Among the I inputs of one output, in order from the largest to the smallest, ``p_j`` rises
    evenly from ``drop - window / 2`` to ``drop + window / 2``.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        key: of the masks.
        drop: mean probability, in [0, 1).
        window: the paper's epsilon; ``drop -+ window / 2`` must be in [0, 1).
        factor: the paper's lambda.
        rescale: by ``1 / (1 - p_j)``, or with ``l1`` to the l1 norm of each delta, as mergekit
            does by default.
        election: see ``consensus``.
        average: see ``consensus``.

    Raises:
        UserError: probabilities outside of [0, 1).

    Departures: the step between ranks is ``window / (I - 1)``, as in the authors' code, so that
    both ends of the window are reached. mergekit's is
    ``rescale="l1", election="mass_or_positive"`` for weights with sum 1; its epsilon is half of
    ``window``.
    """
    _check_window(drop, window)
    by_output = LoraPair(pair.lora_b.mT, pair.lora_a.mT)  # a row is one output with its inputs
    keys = row_keys(key, by_output)

    def pruned(row: Float[Array, "S I"], row_key: Key[Array, ""]) -> Float[Array, "S I"]:
        keep = keep_probabilities(row, drop, window)
        kept = jax.random.uniform(row_key, row.shape) < keep
        return jnp.where(kept, row / keep if rescale == "expectation" else row, 0)

    def l1_norms(row: Float[Array, "S I"], row_key: Key[Array, ""]) -> Float[Array, "2 S"]:
        return jnp.abs(jnp.stack([row, pruned(row, row_key)])).sum(-1)

    scales = jnp.ones(weights.shape[0])
    if rescale == "l1":
        before, after = fuse_rows(by_output, l1_norms, keys).sum(0)
        scales = jnp.where(after == 0, 1, before / jnp.where(after == 0, 1, after))

    def fuse_row(row: Float[Array, "S I"], row_key: Key[Array, ""]) -> Float[Array, " I"]:
        values = scales[:, None] * pruned(row, row_key)
        return factor * consensus(values, weights, election=election, average=average)

    return DenseDelta(fuse_rows(by_output, fuse_row, keys).T)


def keep_probabilities(row: Float[Array, "S I"], drop: Real, window: Real) -> Float[Array, "S I"]:
    """``1 - p_j``: rises evenly with the rank of ``|row|`` within each member."""
    order = jnp.argsort(jnp.abs(jax.lax.stop_gradient(row)), axis=-1)
    ranks = jnp.argsort(order, axis=-1)
    place = ranks / max(row.shape[-1] - 1, 1)
    return 1 - drop + window * (place - 0.5)


def _check_window(drop: Real, window: Real) -> None:
    check_share("della: drop", drop, below_one=True)
    check_share("della: window", window)
    if isinstance(drop, jax.core.Tracer) or isinstance(window, jax.core.Tracer):
        return
    if drop - window / 2 < 0 or drop + window / 2 >= 1:
        raise UserError(
            f"della: drop = {float(drop):g} with window = {float(window):g} gives probabilities "
            f"{float(drop - window / 2):g} to {float(drop + window / 2):g}: expected [0, 1)"
        )

"""SeedLoRA as published at ICML 2025: settle what members agree on, fuse the rest in a subspace."""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lorafuse_jax.adapter import norm
from lorafuse_jax.adapter_spectral import truncate
from lorafuse_jax.fusion.entries import fuse_rows, member_quantiles
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.seedlora.stages import (
    fuse_dare,
    fuse_mean,
    fuse_ties,
    settle_large_entries,
    subspace_of_dense,
    subspace_of_mean,
)
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair, UserError

Fuse = Literal["mean", "ties", "dare"]
Output = Literal["dense", "rank"] | int


@operator(source="SeedLoRA, ICML 2025, PMLR v267", lift="module", stream=True, stochastic=True)
def seedlora(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    key: Key[Array, ""] | None = None,
    stages: Literal["both", "1", "2"] = "both",
    quantile: Real = 0.9,
    minimum_large: int = 1,
    tie: Literal["sum", "drop"] = "sum",
    mask: Literal["before", "after"] = "after",
    subspace: Literal["r", "2r", "nr"] = "r",
    fuse: Fuse = "mean",
    density: Real = 0.5,
    drop: Real = 0.5,
    output: Output = "dense",
) -> LoraPair | DenseDelta:
    """Stage 1 settles large entries; stage 2 gives the others.

    Stage 1, entry by entry: member s is large where ``|delta_s|`` reaches the ``quantile`` of its
    own magnitudes. Large members of one sign: their mean. Of both signs: the mean of the majority.
    Stage 2, on the other entries: ``sum_s w_s delta_s ~ U S V^T``, ``Z_s = U^T delta_s V``,
    ``U fuse(Z_1 .. Z_S) V^T``. Our kernels are [I, O], the transpose of the paper's matrices, so
    our U spans the fan-in where the paper's spans the fan-out; nothing else changes.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member. Means over some of the members use their shares of the total.
        key: needed by ``fuse="dare"``, unused otherwise.
        stages: one stage alone: ``1`` leaves the entries it does not settle zero, ``2`` settles
            nothing. Stage 1 with the plain mean elsewhere is ``subspace="nr"`` with
            ``fuse="mean"``, which loses nothing of the mean.
        quantile: in [0, 1], of ``|delta_s|`` over one module of one layer.
        minimum_large: fewest large members, of either sign, for an entry to be settled.
        tie: as many large members of each sign: take the sign of their weighted sum, or leave the
            entry to stage 2. A sum of exactly zero is left to stage 2 as well.
        mask: ``after``: the subspace and the Z_s are of the whole deltas, and settled entries are
            overwritten. ``before``: settled entries are set to zero first.
        subspace: dimension K of the subspace, in ranks of one member.
        fuse: how the coordinates Z_s [K, K] are fused.
        density: for ``ties``, the share of coordinates that trimming keeps, in (0, 1].
        drop: for ``dare``, the probability of dropping a coordinate, in [0, 1).
        output: ``dense`` is exact, as the splice has no low rank. ``rank`` is its best
            approximation of the members' rank, a number that of another rank; ``kept_norm_share``
            tells what it costs. Stage 2 alone is of rank K and stays a LoraPair under ``dense``.

    Raises:
        UserError: a setting out of its range, or ``dare`` without a key.

    Departures: known from reviews and notes, not from code; where those are silent the choice is
    an option. Neither quantile 0.9 nor density or drop 0.5 is claimed to be the paper's.
    """
    _check_settings(quantile, minimum_large, density, drop, output)
    members, _, rank = pair.lora_a.shape
    size = rank * {"r": 1, "2r": 2, "nr": members}[subspace]
    wanted = {"dense": None, "rank": rank}[output] if isinstance(output, str) else output

    def fused(coordinates: Float[Array, "S K K"]) -> Float[Array, "K K"]:
        if fuse == "ties":
            return fuse_ties(coordinates, weights, density)
        if fuse == "dare":
            return fuse_dare(coordinates, weights, drop, _needed(key))
        return fuse_mean(coordinates, weights)

    if stages == "2":
        left, right = subspace_of_mean(pair, weights, size)
        coordinates = (left.T @ pair.lora_a) @ (pair.lora_b @ right.T)
        return _of_rank(LoraPair(left @ fused(coordinates), right), wanted)

    thresholds = member_quantiles(pair, quantile)
    settle = partial(
        settle_large_entries,
        weights=weights,
        thresholds=thresholds,
        minimum_large=minimum_large,
        tie=tie,
    )
    if stages == "1":
        return _of_rank(DenseDelta(fuse_rows(pair, lambda row: settle(row).values)), wanted)
    if mask == "before":
        residual = lambda row: jnp.where(settle(row).where, 0, row)  # noqa: E731
        mean = fuse_rows(pair, lambda row: weights @ residual(row))
        left, right = subspace_of_dense(mean, size)
        projected = fuse_rows(pair, lambda row: residual(row) @ right.T)
        coordinates = jnp.einsum("ik,isj->skj", left, projected)
    else:
        left, right = subspace_of_mean(pair, weights, size)
        coordinates = (left.T @ pair.lora_a) @ (pair.lora_b @ right.T)
    rest = fused(coordinates) @ right

    def splice(row: Float[Array, "S O"], left_row: Float[Array, " K"]) -> Float[Array, " O"]:
        settled = settle(row)
        return jnp.where(settled.where, settled.values, left_row @ rest)

    return _of_rank(DenseDelta(fuse_rows(pair, splice, left)), wanted)


def kept_norm_share(dense: Adapter, low_rank: Adapter) -> Float[Array, ""]:
    """``||low_rank|| / ||dense||`` (Frobenius): what an output of low rank keeps, in [0, 1].

    Args:
        dense: the operator's result with ``output="dense"``.
        low_rank: its result with ``output="rank"`` and otherwise the same settings.
    """
    return norm(low_rank) / norm(dense)


def _of_rank(update: LoraPair | DenseDelta, rank: int | None) -> LoraPair | DenseDelta:
    if rank is None or (isinstance(update, LoraPair) and update.lora_a.shape[-1] <= rank):
        return update
    return truncate(update, rank)


def _needed(key: Key[Array, ""] | None) -> Key[Array, ""]:
    if key is None:
        raise UserError("seedlora: fuse=dare drops at random and needs a key; pass key=...")
    return key


def _check_settings(
    quantile: Real, minimum_large: int, density: Real, drop: Real, output: Output
) -> None:
    check_share("seedlora: quantile", quantile)
    check_share("seedlora: density", density)
    check_share("seedlora: drop", drop, below_one=True)
    if minimum_large < 1:
        raise UserError(f"seedlora: minimum_large = {minimum_large} is not possible: at least 1")
    if not isinstance(output, str) and output < 1:
        raise UserError(f"seedlora: output = {output} is no rank: at least 1")

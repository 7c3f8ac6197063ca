"""What members have in common, before anything is fused: from the factors, entries in blocks."""

from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lorafuse_jax.adapter import norm, num_members, take
from lorafuse_jax.adapter_spectral import core_svd, thin_svd
from lorafuse_jax.fusion.entries import fuse_rows, member_quantiles
from lorafuse_jax.fusion.moments import inner_products, root
from lorafuse_jax.fusion.operator import Operator, compose
from lorafuse_jax.fusion.spectral.bases import is_there
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair, UserError


class Diagnostics(NamedTuple):
    """One module, layer by layer. P pairs of members are in the order (0, 1), (0, 2), .. (1, 2), ..

    Attributes:
        norms: Frobenius norms of the deltas.
        cosines: between deltas as vectors, 0 where one is zero.
        fan_in_angles: cosines of the principal angles between the members' fan-in spaces, largest
            first; 0 beyond the smaller rank.
        fan_out_angles: the same for the fan-out spaces.
        overlaps: mean squared cosine of the fan-in and of the fan-out angles, in [0, 1]: the share
            of one space that lies in the other. Of random spaces it is R / I and R / O.
        sign_agreement: share of entries, over pairs, of one sign in both; one half by chance.
        robust: share of entries that some members are large in, all of them with one sign.
        conflicting: share of entries that members are large in with both signs.
        quiet: share of the other entries.
    """

    norms: Float[Array, "L S"]
    cosines: Float[Array, "L S S"]
    fan_in_angles: Float[Array, "L P R"]
    fan_out_angles: Float[Array, "L P R"]
    overlaps: Float[Array, "L P 2"]
    sign_agreement: Float[Array, " L"]
    robust: Float[Array, " L"]
    conflicting: Float[Array, " L"]
    quiet: Float[Array, " L"]


LARGE = 0.9
"""Quantile of a member's magnitudes from which on an entry is large, as in stage 1 of SeedLoRA."""


def diagnose(pair: LoraPair, quantile: float = LARGE) -> Diagnostics:
    """How members of one module relate, in every layer.

    Args:
        pair: leaves [S, L, I, R] and [S, L, R, O], S at least 2.
        quantile: of a member's magnitudes; from there on an entry is large.

    Raises:
        UserError: there is only one member.
    """
    if pair.lora_a.shape[0] < 2:
        raise UserError("there is one member: nothing to compare it with")
    exact = jax.tree.map(lambda x: x.astype(jnp.promote_types(x, jnp.float32)), pair)
    gram = inner_products(exact)
    norms, cosines = root(jnp.diagonal(gram, axis1=-2, axis2=-1)), cosines_of(gram)

    def one_layer(layer: LoraPair) -> tuple[Any, ...]:
        return *_angles(layer), *_entry_shares(layer, quantile)

    by_layer = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), exact)
    return Diagnostics(norms, cosines, *jax.lax.map(one_layer, by_layer))


def cosines_of(gram: Float[Any, "*L S S"]) -> Float[Any, "*L S S"]:
    """Cosines from inner products, of NumPy or JAX arrays; 0 where a member is zero."""
    squares = gram.diagonal(axis1=-2, axis2=-1)
    lengths = (squares[..., :, None] * squares[..., None, :]) ** 0.5
    return gram / (lengths + (lengths == 0))


def shares_of_entries(entries: Float[Any, "S ..."], thresholds: Float[Any, "S ..."]) -> list[Any]:
    """Shares of entries: of one sign (over pairs), robust, conflicting; see ``Diagnostics``.

    Args:
        entries: of every member, NumPy's or JAX's.
        thresholds: from which on a member's entry is large; broadcast against ``entries``.
    """
    members, up, down = len(entries), entries > 0, entries < 0
    positive, negative = up.sum(0), down.sum(0)
    alike = positive * (positive - 1) + negative * (negative - 1)
    large = abs(entries) >= thresholds
    large_up, large_down = (large & up).any(0), (large & down).any(0)
    shares = (alike / (members * (members - 1)), large_up ^ large_down, large_up & large_down)
    return [share.mean() for share in shares]


def norm_after(op: Operator, stacked: Adapter, key: Key[Array, ""]) -> Float[Array, ""]:
    """The norm of the operator's result at default settings, over the mean norm of the members.

    Dense results are measured layer by layer and never held. It is 0 where all members are zero.

    Args:
        op: one that needs no statistic.
        stacked: leaves [S, L, ...].
        key: for a stochastic operator.
    """
    measured = compose(op, _only_the_norm)
    length = norm(measured(stacked, key=key if op.stochastic else None))
    members = num_members(stacked)
    single = jnp.stack([norm(take(stacked, k)) for k in range(members)]).mean()
    return jnp.where(single == 0, 0, length / jnp.where(single == 0, 1, single))


def applicable(ops: Iterable[Operator], members: int) -> list[Operator]:
    """Those that can fuse so many members without data."""
    return [
        op
        for op in ops
        if op.statistic is None and (op.max_members is None or members <= op.max_members)
    ]


def _angles(layer: LoraPair) -> tuple[Array, Array, Array]:
    """Principal angles of leaves [S, I, R], [S, R, O], and overlaps."""
    u, s, vt = jax.vmap(core_svd)(layer)
    there = jax.vmap(is_there)(s)[:, None]
    ranks = there.sum((1, 2))
    spaces = (u * there, vt.mT * there)
    angles, overlaps = [], []
    pairs = list(combinations(range(layer.lora_a.shape[0]), 2))
    for space in spaces:
        cosines = jnp.stack([thin_svd(space[i].T @ space[j])[1] for i, j in pairs])
        smaller = jnp.stack([jnp.minimum(ranks[i], ranks[j]) for i, j in pairs])
        angles.append(jnp.clip(cosines, 0, 1))
        overlaps.append((cosines**2).sum(-1) / jnp.maximum(smaller, 1))
    return angles[0], angles[1], jnp.stack(overlaps, axis=-1)


def _entry_shares(layer: LoraPair, quantile: float) -> tuple[Array, ...]:
    thresholds = member_quantiles(layer, quantile)[:, None]
    shares = fuse_rows(layer, lambda row: jnp.stack(shares_of_entries(row, thresholds)))
    alike, robust, conflicting = shares.mean(0)
    return alike, robust, conflicting, 1 - robust - conflicting


def _only_the_norm(adapter: Adapter) -> Adapter:
    """For each module and layer a rank-one update of its norm."""

    def one_layer(update: LoraPair | DenseDelta) -> LoraPair:
        length = norm({"": jax.tree.map(lambda leaf: leaf[None], update)})
        column = jnp.zeros((update[0].shape[0], 1)).at[0, 0].set(length)
        return LoraPair(column, jnp.zeros((1, update[-1].shape[-1])).at[0, 0].set(1))

    return {module: jax.vmap(one_layer)(update) for module, update in adapter.items()}

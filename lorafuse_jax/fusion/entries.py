"""Entry-wise fusion without all dense deltas at once: row by row, in blocks.

Two dense matrices of one module exist at a time, whatever the number of members: one member's
delta while a threshold is sought, and the result.
"""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lorafuse_jax.fusion.hyperparameters import Real
from lorafuse_jax.fusion.quantile import magnitude_at, magnitude_quantile, share_of
from lorafuse_jax.types import LoraPair

ROWS_AT_ONCE = 256


def fuse_rows(
    pair: LoraPair,
    fuse_row: Callable[..., Any],
    *by_row: Array,
) -> Any:
    """The matrix whose rows are ``fuse_row(deltas [S, O], *by_row[i])``, or a tree of matrices.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        fuse_row: what to do with one row of all members.
        by_row: anything else that differs from row to row, [I, ...], such as ``row_keys``.
    """

    def one_row(at_row: tuple[Float[Array, "S R"], tuple[Array, ...]]) -> Any:
        factors, extra = at_row
        return fuse_row(jnp.einsum("sr,sro->so", factors, pair.lora_b), *extra)

    rows = (pair.lora_a.swapaxes(0, 1), by_row)
    return jax.lax.map(one_row, rows, batch_size=ROWS_AT_ONCE)


def row_keys(key: Array, pair: LoraPair) -> Array:
    """A key a row, [I]."""
    return jax.random.split(key, pair.lora_a.shape[-2])


def member_quantiles(pair: LoraPair, quantile: Real) -> Float[Array, " S"]:
    """The ``quantile`` of ``|delta_s|``, each member's own; see ``member_thresholds``."""
    return member_thresholds(pair, lambda delta: magnitude_quantile(delta, quantile))


def density_thresholds(pair: LoraPair, density: Real) -> Float[Array, " S"]:
    """What the largest ``floor(density * I * O)`` entries of a member reach, at least one entry."""
    size = pair.lora_a.shape[-2] * pair.lora_b.shape[-1]
    place = jnp.clip(size - share_of(density, size), 0, size - 1)
    return member_thresholds(pair, lambda delta: magnitude_at(delta, place))


def member_thresholds(
    pair: LoraPair, threshold: Callable[[Float[Array, "I O"]], Float[Array, ""]]
) -> Float[Array, " S"]:
    """``threshold(delta_s)``, one dense delta at a time; no gradient flows through it.

    A few roundings below it, so that the entry it was read from reaches it when the delta is
    computed again, in other blocks.
    """
    one_member = lambda member: threshold(member.lora_a @ member.lora_b)  # noqa: E731
    return jax.lax.map(one_member, jax.lax.stop_gradient(pair)) * (1 - 2**-20)


def by_member(values: Float[Array, " S"], ndim: int) -> Float[Array, "S ..."]:
    """One value a member, to be broadcast over entries with ``ndim`` axes in all."""
    return values.reshape(-1, *[1] * (ndim - 1))


def over_members(values: Array) -> Array:
    """The sum over axis 0, written out: element-wise work that XLA fuses into one loop.

    A reduction over so few members is a loop of its own, with all that goes into it in memory.
    """
    return reduce(add, (values[member] for member in range(values.shape[0])))


def mean_of_kept(
    values: Float[Array, "S ..."], kept: Bool[Array, "S ..."], weights: Float[Array, " S"]
) -> Float[Array, "..."]:
    """``sum(weights) * sum_kept w_s x_s / sum_kept w_s``; zero where none is kept."""
    shares = jnp.where(kept, by_member(weights, values.ndim), 0)
    mass = over_members(shares)
    mean = over_members(shares * values) / jnp.where(mass == 0, 1, mass)
    return jnp.where(mass == 0, 0, weights.sum() * mean)

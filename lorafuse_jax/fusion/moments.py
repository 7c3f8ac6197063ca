"""Norms, means and variances of deltas and of their weighted sums, exactly, from the factors."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.adapter import concat_pair
from lorafuse_jax.types import LoraPair

Scope = Literal["module", "global"]
"""``module``: each module of each layer by itself; ``global``: all of the adapter together."""


def inner_products(pair: LoraPair) -> Float[Array, "L S S"]:
    """Frobenius inner products of the members' deltas, for leaves [S, L, I, R] and [S, L, R, O].

    ``||sum_s w_s delta_s||^2`` is ``w^T G w``.
    """
    left = jnp.einsum("slir,tliq->lstrq", pair.lora_a, pair.lora_a)
    right = jnp.einsum("slro,tlqo->lstrq", pair.lora_b, pair.lora_b)
    return (left * right).sum((-2, -1))


def entry_sums(pair: LoraPair) -> Float[Array, "L S"]:
    """The sum of each member's entries, ``(1^T A)(B 1)``."""
    return jnp.einsum("slr,slr->ls", pair.lora_a.sum(-2), pair.lora_b.sum(-1))


def entry_count(pair: LoraPair) -> int:
    """Entries of one delta, I * O."""
    return pair.lora_a.shape[-2] * pair.lora_b.shape[-1]


def scoped(by_module: dict[str, Array], scope: Scope) -> dict[str, Array]:
    """Statistics [L, ...] a module, to be read with that scope.

    ``module`` leaves them; ``global`` puts the total over layers and modules, [1, ...], everywhere.
    """
    if scope == "module":
        return by_module
    total = jnp.stack([values.sum(0) for values in by_module.values()]).sum(0)[None]
    return dict.fromkeys(by_module, total)


def root(square: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The square root, zero at and below zero, with a finite gradient there too."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def ratio(above: Float[Array, "*shape"], below: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``above / below``, and 1 where ``below`` is zero: what has no size is not rescaled."""
    return jnp.where(below == 0, 1, above / jnp.where(below == 0, 1, below))


def combine_layers(
    pair: LoraPair, weights: Float[Array, " S"], factor: Float[Array, " _"]
) -> LoraPair:
    """``factor * sum_s weights[s] delta_s`` of leaves [S, L, ...], exactly; factor [L] or [1]."""
    total = jax.vmap(concat_pair, in_axes=(1, None))(pair, weights)
    return total._replace(lora_b=total.lora_b * factor[:, None, None])


def combine_each(pair: LoraPair, coefficients: Float[Array, "L S"]) -> LoraPair:
    """``sum_s coefficients[l, s] delta_s`` of leaves [S, L, ...], exactly; [1, S] is for all."""
    layers = pair.lora_a.shape[1]
    by_layer = jnp.broadcast_to(coefficients, (layers, coefficients.shape[-1]))
    return jax.vmap(concat_pair, in_axes=(1, 0))(pair, by_layer)

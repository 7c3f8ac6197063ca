"""Spherical interpolation of two deltas."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.moments import Scope, combine_each, inner_products, root, scoped
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import Adapter, LoraPair

PARALLEL = 0.9995
"""Cosine above which the arc is a straight line, as in mergekit."""


@operator(source="Shoemake 1985 (slerp)", lift="tree", max_members=2)
def slerp(
    stacked: dict[str, LoraPair], *, weights: Float[Array, " S"], scope: Scope = "module"
) -> Adapter:
    """``sin((1-t) a) / sin(a) delta_0 + sin(t a) / sin(a) delta_1``, exactly, of rank 2 R.

    ``a`` is the angle between the two deltas as vectors (Frobenius) and ``t = w_1 / (w_0 + w_1)``;
    the result is scaled by the sum of the weights. Of two members of one norm it has that norm, so
    nothing shrinks. (Nearly) parallel and opposite members, and zeros, are interpolated linearly.

    Args:
        stacked: leaves [S, L, I, R] and [S, L, R, O], S at most 2.
        weights: where on the arc.
        scope: one angle a module and layer, or one for the whole adapter.

    Departures: mergekit's slerp turns whole weight matrices, base included; this one deltas.
    """
    products = scoped({m: inner_products(pair) for m, pair in stacked.items()}, scope)
    total = weights.sum()
    shares = weights / total
    return {
        module: combine_each(pair, total * _on_the_arc(products[module], shares))
        for module, pair in stacked.items()
    }


def _on_the_arc(gram: Float[Array, "L S S"], shares: Float[Array, " S"]) -> Float[Array, "L S"]:
    """The coefficients of both members."""
    if shares.shape[0] == 1:
        return jnp.broadcast_to(shares, (gram.shape[0], 1))
    lengths = root(gram[:, 0, 0]) * root(gram[:, 1, 1])
    straight = jnp.abs(gram[:, 0, 1]) >= PARALLEL * lengths
    cosine = jnp.where(straight, 0, gram[:, 0, 1] / jnp.where(straight, 1, lengths))
    angle = jnp.arccos(cosine)[:, None]
    return jnp.where(straight[:, None], shares, jnp.sin(shares * angle) / jnp.sin(angle))

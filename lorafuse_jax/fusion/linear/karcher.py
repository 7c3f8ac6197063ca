"""The Karcher mean: the direction with the smallest summed squared angle to all members."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.moments import Scope, combine_each, inner_products, root, scoped
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import Adapter, LoraPair

CLOSE = 1e-3
"""Angle below which ``angle / sin(angle)`` is 1 in single precision."""


@operator(source="Karcher 1977; mergekit's karcher", lift="tree")
def karcher(
    stacked: dict[str, LoraPair],
    *,
    weights: Float[Array, " S"],
    iterations: int = 20,
    scope: Scope = "module",
) -> Adapter:
    """``(sum_s w_s ||delta_s||) * argmin_x sum_s w_s angle(x, delta_s)^2``, of rank S * R.

    The minimiser is on the unit sphere and in the span of the members, so that only its S
    coefficients are iterated: ``x <- exp_x(sum_s w_s log_x(delta_s / ||delta_s||))``. For two
    members of one norm it is ``slerp``. Zero members take no part.

    Args:
        stacked: leaves [S, L, I, R] and [S, L, R, O].
        weights: one a member.
        iterations: steps; each shrinks the error by about the squared spread of the members, and
            seeds of one task need fewer than ten.
        scope: one mean a module and layer, or one for the whole adapter.

    Departures: a fixed number of steps, where mergekit tests for convergence (1e-5) within ten.
    mergekit averages whole weight matrices, base included; this one deltas.
    """
    products = scoped({m: inner_products(pair) for m, pair in stacked.items()}, scope)
    coefficients = jax.vmap(_coefficients, in_axes=(0, None, None))
    return {
        module: combine_each(pair, coefficients(products[module], weights, iterations))
        for module, pair in stacked.items()
    }


def _coefficients(
    gram: Float[Array, "S S"], weights: Float[Array, " S"], iterations: int
) -> Float[Array, " S"]:
    norms = root(jnp.diagonal(gram))
    inverse = jnp.where(norms == 0, 0, 1 / jnp.where(norms == 0, 1, norms))
    cosines = gram * inverse[:, None] * inverse  # of the unit vectors the rest is about
    pulls = jnp.where(norms == 0, 0, weights)
    mass = pulls.sum()
    pulls = pulls / jnp.where(mass == 0, 1, mass)

    def length(x: Float[Array, " S"]) -> Float[Array, ""]:
        return root(x @ cosines @ x)

    def unit(x: Float[Array, " S"]) -> Float[Array, " S"]:
        size = length(x)
        return x / jnp.where(size == 0, 1, size)

    def step(x: Float[Array, " S"], _: None) -> tuple[Float[Array, " S"], None]:
        cosine = jnp.clip(cosines @ x, -1, 1)
        sine = root(1 - cosine**2)
        near = sine < CLOSE
        angle = jnp.arctan2(jnp.where(near, 0, sine), jnp.where(near, 1, cosine))
        stretch = pulls * jnp.where(near, 1, angle / jnp.where(near, 1, sine))
        tangent = stretch - (stretch @ cosine) * x
        far = length(tangent)
        sinc = jnp.where(far < CLOSE, 1, jnp.sin(far) / jnp.where(far < CLOSE, 1, far))
        return unit(jnp.cos(far) * x + sinc * tangent), None

    x, _ = jax.lax.scan(step, unit(pulls), length=iterations)
    return (weights @ norms) * x * inverse

"""The mean, with its norm restored: the control that tells scale from fusion."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.hyperparameters import Real
from lorafuse_jax.fusion.moments import Scope, combine_layers, inner_products, ratio, root, scoped
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import Adapter, LoraPair


@operator(source="control: arXiv:2203.05482 (model soups), rescaled", lift="tree")
def scaled_mean(
    stacked: dict[str, LoraPair],
    *,
    weights: Float[Array, " S"],
    factor: Real | None = None,
    scope: Scope = "module",
) -> Adapter:
    """``factor * sum_s weights[s] delta_s``, exactly, as LoraPairs of rank S * R.

    Averaging n nearly orthogonal seeds shrinks the norm to about 1/sqrt(n) of a member's. If this
    operator does as well as a cleverer one, that one's gain is scale.

    Args:
        stacked: leaves [S, L, I, R] and [S, L, R, O].
        weights: one a member.
        factor: the scale; None gives the mean the weighted mean of the members' norms
            (Frobenius): ``sum_s w_s ||delta_s|| / ||sum_s w_s delta_s||``. A mean of zero stays.
        scope: with ``factor=None``, norms of each module of each layer, or of the whole adapter.
    """
    products = {module: inner_products(pair) for module, pair in stacked.items()}
    products = scoped(products, scope)
    fused: Adapter = {}
    for module, pair in stacked.items():
        if factor is None:
            factors = _norm_matching(products[module], weights)
        else:
            factors = jnp.reshape(jnp.asarray(factor), (1,))
        fused[module] = combine_layers(pair, weights, factors)
    return fused


def _norm_matching(gram: Float[Array, "L S S"], weights: Float[Array, " S"]) -> Float[Array, " L"]:
    member_norms = root(jnp.diagonal(gram, axis1=-2, axis2=-1))
    mean_norm = root(jnp.einsum("s,lst,t->l", weights, gram, weights))
    return ratio(member_norms @ weights, mean_norm)

"""Model Stock: the mean, moved towards the base as far as the members disagree."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.moments import Scope, combine_layers, inner_products, root, scoped
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import Adapter, LoraPair


@operator(source="arXiv:2403.19522 (Model Stock), equation 6", lift="tree")
def model_stock(
    stacked: dict[str, LoraPair], *, weights: Float[Array, " S"], scope: Scope = "module"
) -> Adapter:
    """``t * sum_s weights[s] delta_s`` with ``t = S c / (1 + (S - 1) c)``, of rank S * R.

    ``c`` is the mean cosine of two members' deltas. Members that agree (c = 1) give their mean;
    orthogonal ones give the base (t = 0), members that contradict each other (c < 0) a negative t.

    Args:
        stacked: leaves [S, L, I, R] and [S, L, R, O].
        weights: one a member.
        scope: one ratio a module and layer, or one for the whole adapter.

    Departures: the paper averages members of equal weight, and layers of whole matrices that
    include the base; a frozen base makes deltas of them. Where ``1 + (S - 1) c`` is zero, t is 0.
    """
    products = scoped({m: inner_products(pair) for m, pair in stacked.items()}, scope)
    return {
        module: combine_layers(pair, weights, _ratio(products[module]))
        for module, pair in stacked.items()
    }


def _ratio(gram: Float[Array, "L S S"]) -> Float[Array, " L"]:
    members = gram.shape[-1]
    if members == 1:
        return jnp.ones(gram.shape[0])
    norms = root(jnp.diagonal(gram, axis1=-2, axis2=-1))
    lengths = norms[:, :, None] * norms[:, None, :]
    cosines = jnp.where(lengths == 0, 0, gram / jnp.where(lengths == 0, 1, lengths))
    among = cosines.sum((-2, -1)) - jnp.trace(cosines, axis1=-2, axis2=-1)
    cosine = among / (members * (members - 1))
    below = 1 + (members - 1) * cosine
    singular = below < 1e-6
    return jnp.where(singular, 0, members * cosine / jnp.where(singular, 1, below))

"""The mean of the factors, which is not the mean of the deltas: common, wrong, for comparison."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import LoraPair


@operator(
    source="FedIT, arXiv:2305.05644; PEFT add_weighted_adapter(combination_type='linear')",
    lift="module",
    basis_invariant=False,
)
def factor_mean(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    convention: Literal["mean", "peft"] = "mean",
) -> LoraPair:
    """``(sum_s w_s A_s) (sum_s w_s B_s) / sum_s w_s``, of rank R.

    The product has cross terms ``A_s B_t``, and it changes when ``A_s, B_s`` are written in another
    basis (``A_s Q, Q^-1 B_s``), which changes no member. Seeds start from different A, so this is
    the worst case for it. Use ``mean``.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        convention: ``peft`` gives ``(sum_s sqrt(w_s) A_s) (sum_s sqrt(w_s) B_s)``, which of S
            identical members of weight 1/S is S times the member. For weights that are positive.
    """
    if convention == "peft":
        positive = weights > 0
        root = jnp.where(positive, jnp.sqrt(jnp.where(positive, weights, 1)), 0)
        return LoraPair(_sum(root, pair.lora_a), _sum(root, pair.lora_b))
    return LoraPair(_sum(weights, pair.lora_a) / weights.sum(), _sum(weights, pair.lora_b))


def _sum(weights: Float[Array, " S"], factors: Float[Array, "S rows columns"]) -> Array:
    return jnp.einsum("s,sij->ij", weights, factors)

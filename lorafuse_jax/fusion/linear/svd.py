"""The mean, at the members' own rank."""

from jaxtyping import Array, Float

from lorafuse_jax.adapter import concat_pair
from lorafuse_jax.adapter_spectral import truncate
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import LoraPair, UserError


@operator(source="PEFT add_weighted_adapter(combination_type='svd')", lift="module")
def svd(pair: LoraPair, *, weights: Float[Array, " S"], rank: int | None = None) -> LoraPair:
    """The best approximation of ``sum_s weights[s] delta_s`` of that rank (Eckart-Young).

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        rank: at least 1; None is the members' rank R.

    Raises:
        UserError: the rank is below 1.

    Departures: none in what is computed; PEFT makes the dense delta and its full SVD, here it is
    the SVD of an S R x S R core.
    """
    if rank is not None and rank < 1:
        raise UserError(f"svd: rank = {rank} is not possible: at least 1")
    return truncate(concat_pair(pair, weights), rank or pair.lora_a.shape[-1])

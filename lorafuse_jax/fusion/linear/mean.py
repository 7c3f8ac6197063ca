"""The weighted mean of the members' deltas: the soup every other operator has to beat."""

from jaxtyping import Array, Float

from lorafuse_jax.adapter import concat_pair
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import LoraPair


@operator(source="arXiv:2203.05482 (model soups), uniform soup", lift="module")
def mean(pair: LoraPair, *, weights: Float[Array, " S"]) -> LoraPair:
    """``sum_s weights[s] A_s B_s``, exactly.

    The factors are concatenated, so the result is a LoraPair of rank S * R; ``compress`` brings it
    back to R. The mean of A and the mean of B would not do: their product has cross terms A_s B_t.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: 1/S each gives the soup; other sums give task arithmetic.

    Departures: the paper averages whole models. With a frozen base that is the same.
    """
    return concat_pair(pair, weights)

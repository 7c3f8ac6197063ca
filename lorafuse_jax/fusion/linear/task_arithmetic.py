"""Task arithmetic: the sum of the members' deltas, scaled."""

from jaxtyping import Array, Float

from lorafuse_jax.adapter import concat_pair
from lorafuse_jax.fusion.hyperparameters import Real
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import LoraPair


@operator(source="arXiv:2212.04089 (task arithmetic), section 2", lift="module", fixed_point=False)
def task_arithmetic(pair: LoraPair, *, weights: Float[Array, " S"], factor: Real = 1.0) -> LoraPair:
    """``factor * S * sum_s weights[s] delta_s``, exactly: with equal weights ``factor * sum_s``.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member, 1/S each by default.
        factor: the paper's lambda, one for all; it is tuned on validation data.

    Departures: the paper has no weights; ours share the sum out.
    """
    members = weights.shape[0]
    return concat_pair(pair, members * factor * weights)

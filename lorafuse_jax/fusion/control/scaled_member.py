"""One member, scaled: what a change of norm alone does."""

from jaxtyping import Array, Float

from lorafuse_jax.fusion.hyperparameters import Real
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import LoraPair, UserError


@operator(
    source="control: a single seed, scaled",
    lift="module",
    permutation_invariant=False,
)
def scaled_member(
    pair: LoraPair, *, weights: Float[Array, " S"], member: int = 0, factor: Real = 1.0
) -> LoraPair:
    """``factor * sum(weights) * delta_member``: no fusion at all, of rank R.

    If a fused adapter is better only as far as this is at the fused norm, the gain is scale.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: only their sum matters.
        member: which one, 0 to S - 1; the best on validation data, never on test data.
        factor: its scale.

    Raises:
        UserError: there is no such member.
    """
    members = weights.shape[0]
    if not 0 <= member < members:
        raise UserError(f"scaled_member: member = {member}; there are 0 to {members - 1}")
    return LoraPair(pair.lora_a[member], factor * weights.sum() * pair.lora_b[member])

"""POME: one member with its leading singular values made equal; no fusion at all."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.adapter_spectral import core_svd
from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.spectral.bases import is_there
from lorafuse_jax.types import LoraPair, UserError


@operator(
    source="arXiv:2510.06627 (POME)",
    lift="module",
    fixed_point=False,
    identity_for_one=False,
    permutation_invariant=False,
)
def pome(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    member: int = 0,
    share: Real = 0.5,
    factor: Real = 1.0,
) -> LoraPair:
    """``factor * sum(w) * c * U_k V_k^T``: the leading singular directions, all of one length.

    ``c`` gives the result the norm of the member: the control for what a spectral edit of a single
    seed does at an unchanged norm.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: only their sum matters.
        member: which one, 0 to S - 1; the best on validation data, never on test data.
        share: of its directions that are kept, in [0, 1]; at least one is.
        factor: another scale.

    Raises:
        UserError: there is no such member.

    Departures: the paper edits full updates and tunes the scale; ours has the member's norm.
    """
    check_share("pome: share", share)
    members = pair.lora_a.shape[0]
    if not 0 <= member < members:
        raise UserError(f"pome: member = {member}; there are 0 to {members - 1}")
    own = jax.lax.stop_gradient(LoraPair(pair.lora_a[member], pair.lora_b[member]))
    u, s, vt = core_svd(own)
    there = is_there(s)
    count = jnp.maximum(1, jnp.ceil(share * there.sum() - 1e-4))
    kept = there * (jnp.arange(s.shape[0]) < count)
    length = jnp.sqrt((s**2).sum() / jnp.maximum(kept.sum(), 1))
    return LoraPair(u * (factor * weights.sum() * length * kept), vt)

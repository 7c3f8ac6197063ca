"""TSV-M: the members' leading singular directions, made orthogonal to each other."""

import jax
from jaxtyping import Array, Float

from lorafuse_jax.adapter_spectral import core_svd
from lorafuse_jax.fusion.hyperparameters import Real
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.spectral.bases import concatenated, is_there, polar_factor
from lorafuse_jax.types import LoraPair, UserError


@operator(source="arXiv:2412.00081 (TSV-M), algorithm 1", lift="module", fixed_point=False)
def tsv(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    directions: int | None = None,
    factor: Real = 1.0,
) -> LoraPair:
    """``factor * P(U) diag(w_s s_s) P(V)^T``, of rank S * directions.

    ``U = [U_1|..|U_S]`` and V are the leading singular vectors of all members, ``P`` the nearest
    matrix with orthonormal columns, which takes away what members have in common.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member; the paper's sum is weights of 1.
        directions: kept of each member, 1 to R. None is the paper's 1 / S of all min(I, O) singular
            directions, which for low-rank members of few seeds is all R of them.
        factor: the paper's alpha.

    Raises:
        UserError: ``directions`` is below 1.

    Departures: directions that coincide exactly, as identical members' do, share one direction of
    the result (the partial isometry), where the paper's SVD would invent others. So identical
    members give 1 / S of one, and nearly identical ones more: there is a jump between.
    """
    if directions is not None and directions < 1:
        raise UserError(f"tsv: directions = {directions} is not possible: at least 1")
    members, fan_in, rank = pair.lora_a.shape
    fan_out = pair.lora_b.shape[-1]
    kept = min(rank, directions or max(1, min(fan_in, fan_out) // members))
    u, s, vt = jax.vmap(core_svd)(jax.lax.stop_gradient(pair))
    there = jax.vmap(is_there)(s)[:, None, :kept]
    left = polar_factor(concatenated(u[..., :kept] * there))
    right = polar_factor(concatenated(vt.mT[..., :kept] * there))
    singular = (factor * weights[:, None] * s[:, :kept]).reshape(-1)
    return LoraPair(left * singular, right.T)

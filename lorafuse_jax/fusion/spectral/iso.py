"""Iso-C: the mean with a flat spectrum."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.adapter import concat_pair
from lorafuse_jax.adapter_spectral import core_svd
from lorafuse_jax.fusion.hyperparameters import Real
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.spectral.bases import is_there
from lorafuse_jax.types import LoraPair


@operator(
    source="arXiv:2502.04959 (Iso-C), algorithm 1",
    lift="module",
    fixed_point=False,
    identity_for_one=False,
)
def iso(pair: LoraPair, *, weights: Float[Array, " S"], factor: Real = 1.0) -> LoraPair:
    """``factor * mean(s) * U V^T`` for ``sum_s w_s delta_s = U diag(s) V^T``, of rank S * R.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member; the paper's sum is weights of 1.
        factor: the paper's alpha.

    Departures: the paper averages over all min(I, O) singular values of full updates. A low-rank
    mean has none in most directions, and they would be arbitrary; ours averages over those that
    are there, and leaves the others zero.
    """
    mean = concat_pair(pair, weights)
    u, s, vt = core_svd(jax.lax.stop_gradient(mean))
    there = is_there(s)
    singular = ((u.T @ mean.lora_a) * (mean.lora_b @ vt.T).T).sum(-1)  # s, with a gradient
    average = (there * singular).sum() / jnp.maximum(there.sum(), 1)
    return LoraPair(u * (factor * average * there), vt)

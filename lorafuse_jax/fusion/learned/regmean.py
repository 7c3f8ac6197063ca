"""RegMean: the linear map that is nearest to each member's on that member's inputs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import LoraPair

RIDGE = 1e-6
"""Of the mean diagonal, so that features that were never on do no harm."""


@operator(
    source="arXiv:2212.09849 (RegMean), equation 2 and section 3.2",
    lift="module",
    stream=True,
    statistic="Gram matrices of the inputs, [S, L, I, I]",
)
def regmean(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    statistic: Float[Array, "S I I"],
    off_diagonal: Real = 0.9,
) -> LoraPair:
    """``sum(w) * (sum_s w_s G_s)^-1 sum_s w_s G_s delta_s``, exactly, as a LoraPair of rank S * R.

    It minimises ``sum_s w_s ||X_s (delta - delta_s)||^2`` with ``G_s = X_s^T X_s``.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        statistic: G_s, the Gram matrices of each member's inputs; ``lorafuse_jax.input_grams``.
        off_diagonal: factor of the entries off the diagonal, in [0, 1]; 1 is least squares, 0 an
            average by the size of the features.

    Departures: a ridge of 1e-6 of the mean diagonal; none otherwise.
    """
    check_share("regmean: off_diagonal", off_diagonal)
    members, fan_in, rank = pair.lora_a.shape
    diagonal = jnp.eye(fan_in)
    grams = weights[:, None, None] * statistic * (off_diagonal + (1 - off_diagonal) * diagonal)
    total = grams.sum(0)
    total = total + (RIDGE * jnp.trace(total) / fan_in) * diagonal
    moved = (grams @ pair.lora_a).swapaxes(0, 1).reshape(fan_in, members * rank)
    solved = weights.sum() * _solve(total, moved)
    return LoraPair(solved, pair.lora_b.reshape(members * rank, -1))


def _solve(matrix: Float[Array, "I I"], right: Float[Array, "I K"]) -> Float[Array, "I K"]:
    """``matrix^-1 right``, refined once; the refinement also carries the exact gradient."""
    inverse = _inverse(jax.lax.stop_gradient(matrix))
    rough = inverse @ jax.lax.stop_gradient(right)
    return rough + inverse @ (right - matrix @ rough)


@jax.custom_batching.sequential_vmap
def _inverse(matrix: Float[Array, "I I"]) -> Float[Array, "I I"]:
    """Zero for a matrix of zeros: nothing is known, and nothing moves."""
    nothing = jnp.trace(matrix) == 0
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return jnp.where(nothing, 0, jnp.linalg.inv(jnp.where(nothing, identity, matrix)))

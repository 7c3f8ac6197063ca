"""Orthonormal bases that several low-rank deltas share, from their factors.

All come from two QRs of concatenated factors, one QR a member and an SVD of an S R x S R core. A
direction whose singular value is rounding is given length zero, so that padded ranks and identical
members add nothing that is arbitrary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import block_diag
from jaxtyping import Array, Float

from lorafuse_jax.adapter import pair_inner
from lorafuse_jax.adapter_spectral import leading_vectors, tall_qr, thin_svd
from lorafuse_jax.fusion.hyperparameters import Real
from lorafuse_jax.fusion.moments import ratio, root
from lorafuse_jax.types import LoraPair


class Rows(NamedTuple):
    """``delta_s = coordinates_s diag(singular) basis`` for all members.

    Attributes:
        coordinates: leaves [S, I, R], [S, R, K], whose products, stacked over members, have
            orthonormal columns.
        singular: [K], in descending order.
        basis: [K, O], orthonormal rows.
    """

    coordinates: LoraPair
    singular: Float[Array, " K"]
    basis: Float[Array, "K O"]


def stacked_svd(pair: LoraPair) -> Rows:
    """The SVD of ``[delta_1; ..; delta_S]`` (S I x O): the fan-out side is shared.

    With the papers' matrices ``D_s = delta_s^T`` it is ``[D_1|..|D_S] = U diag(s) [V_1^T|..]`` with
    ``basis = U^T`` and ``coordinates_s = V_s``. It depends on the deltas alone, not on how they
    are factored.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
    """
    lefts, cores = zip(*(tall_qr(factor) for factor in pair.lora_a), strict=True)
    right, right_core = tall_qr(concatenated(pair.lora_b.mT))
    u, s, vt = thin_svd(block_diag(*cores) @ right_core.T)
    u = u * is_there(s)
    blocks = u.reshape(len(lefts), -1, u.shape[-1])
    return Rows(LoraPair(jnp.stack(lefts), blocks), s, vt @ right.T)


def shared_bases(
    pair: LoraPair, *, of_factors: bool = False
) -> tuple[Float[Array, "I J"], Float[Array, "K O"]]:
    """Orthonormal bases of the fan-in and fan-out of all members, leading directions first.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        of_factors: singular vectors of the concatenated factors, which change under
            ``A Q, Q^-1 B``, instead of those of the concatenated deltas, which do not.
    """
    given = jax.lax.stop_gradient(pair)
    if of_factors:
        left, right = (_left_vectors(concatenated(f)) for f in (given.lora_a, given.lora_b.mT))
        return left, right.T
    right = stacked_svd(given).basis
    left = stacked_svd(LoraPair(given.lora_b.mT, given.lora_a.mT)).basis
    return left.T, right


def closest_bases(
    pair: LoraPair, size: int, beta: Real, iterations: int
) -> tuple[Float[Array, "I J"], Float[Array, "K O"]]:
    """Orthonormal bases of ``size`` directions that keep the most of all members at once.

    Alternating least squares (HOOI, Tucker-2) in the members' core: each side is the leading
    singular vectors of the concatenated deltas, projected to the other side's basis. What is kept
    never falls. They depend on the deltas alone, and are singular vectors, not just any basis.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        size: directions on either side; fewer come out where there are fewer.
        beta: 1 takes the members as they are, 0 all at their mean norm.
        iterations: alternations, from the leading directions of ``shared_bases``.
    """
    given = jax.lax.stop_gradient(pair)
    norms = root(jax.vmap(lambda one: pair_inner(one, one))(given))
    factors = ratio(beta * norms + (1 - beta) * norms.mean(), norms)
    given = jax.lax.stop_gradient(given._replace(lora_b=given.lora_b * factors[:, None, None]))
    left, right = shared_bases(given)
    a, b = left.T @ given.lora_a, given.lora_b @ right.T
    u, v = jnp.eye(a.shape[1])[:, :size], jnp.eye(b.shape[2])[:, :size]

    def alternate(
        bases: tuple[Float[Array, "J r"], Float[Array, "K q"]], _: None
    ) -> tuple[tuple[Float[Array, "J r"], Float[Array, "K q"]], None]:
        u, v = bases
        u = leading_vectors(concatenated(a @ (b @ v)), u.shape[1])
        v = leading_vectors(concatenated(b.mT @ (a.mT @ u)), v.shape[1])
        return (u, v), None

    (u, v), _ = jax.lax.scan(alternate, (u, v), length=iterations)
    return left @ u, v.T @ right


def polar_factor(matrix: Float[Array, "rows K"]) -> Float[Array, "rows K"]:
    """The nearest matrix with orthonormal columns (orthogonal Procrustes).

    Of a rank-deficient one the partial isometry: what it maps to zero stays zero.
    """
    q, r = tall_qr(matrix)
    u, s, vt = thin_svd(r)
    return q @ ((u * is_there(s)) @ vt)


def is_there(singular: Float[Array, " K"]) -> Float[Array, " K"]:
    """1 for singular values above rounding, else 0."""
    rounding = 4 * singular.shape[0] * jnp.finfo(singular.dtype).eps * singular.max()
    return (singular > rounding).astype(singular.dtype)


def concatenated(factors: Float[Array, "S rows R"]) -> Float[Array, "rows SR"]:
    """``[F_1|..|F_S]``."""
    return factors.swapaxes(0, 1).reshape(factors.shape[1], -1)


def _left_vectors(matrix: Float[Array, "rows K"]) -> Float[Array, "rows K"]:
    q, r = tall_qr(matrix)
    return q @ thin_svd(r)[0]

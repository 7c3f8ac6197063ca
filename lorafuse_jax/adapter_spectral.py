"""The singular values and vectors of a low-rank update, without its dense delta.

Matrices are factored one at a time, also under vmap. jaxlib 0.10 hands a batch of LAPACK calls to
the pool of threads that wait for it, and several batches at once wait for ever: seen with two
modules fused on two CPU cores, and fixed in jaxlib 0.11.2 by no longer doing so.
"""

import os

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.types import DenseDelta, LoraPair

# LAPACK comes from SciPy's OpenBLAS, whose threads and XLA's get in each other's way: on two cores
# the SVD of a 4096 x 4096 update of rank 512 takes 10 s with them and 0.4 s without. OpenBLAS reads
# this when SciPy loads it, which importing jax does not do yet; who sets it otherwise is heard.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

EXACT_UP_TO = 256
"""The smaller side of a dense matrix up to which it has an exact SVD."""
OVERSAMPLING = 16
POWER_ITERATIONS = 2
WIDE = 128
"""Columns from which on a QR is done in one piece."""


def truncate(update: LoraPair | DenseDelta, rank: int) -> LoraPair:
    """The nearest update of that rank (Eckart-Young), for one module of one layer.

    Low-rank updates stay factors, and are exact. A dense one whose sides are both above 256 takes
    ``randomized_svd``. Singular values are split over both factors; gradients take the subspace as
    given.

    Args:
        update: leaves [I, R] and [R, O], or [I, O]; float32 or float64.
        rank: at least 1; less comes out where the update cannot have as much.
    """
    given = jax.lax.stop_gradient(update)
    u, s, _ = core_svd(given) if isinstance(given, LoraPair) else leading_svd(given.delta, rank)
    u, root = u[:, :rank], jnp.sqrt(s[:rank])
    if isinstance(update, LoraPair):
        rest = (u.T @ update.lora_a) @ update.lora_b
    else:
        rest = u.T @ update.delta
    inverse = jnp.where(root == 0, 0, 1 / jnp.where(root == 0, 1, root))
    return LoraPair(u * root, inverse[:, None] * rest)


def leading_svd(
    matrix: Float[Array, "I O"], rank: int
) -> tuple[Float[Array, "I K"], Float[Array, " K"], Float[Array, "K O"]]:
    """The leading K = min(I, O, rank) singular values and vectors of a dense matrix.

    Exact up to ``EXACT_UP_TO``, by ``randomized_svd`` above it.
    """
    if min(matrix.shape) > EXACT_UP_TO:
        return randomized_svd(matrix, rank)
    u, s, vt = thin_svd(matrix)
    return u[:, :rank], s[:rank], vt[:rank]


def randomized_svd(
    matrix: Float[Array, "I O"], rank: int
) -> tuple[Float[Array, "I K"], Float[Array, " K"], Float[Array, "K O"]]:
    """The leading singular values and vectors, by subspace iteration (arXiv:0909.4061, 4.4).

    A fixed random start, ``OVERSAMPLING`` more columns than the rank, ``POWER_ITERATIONS`` passes.
    The norm that is found is never above the best one's.

    Returns:
        U [I, K], s [K], Vt [K, O] with K = min(I, O, rank).
    """
    columns = min(rank + OVERSAMPLING, *matrix.shape)
    start = jax.random.normal(jax.random.key(0), (matrix.shape[1], columns), matrix.dtype)
    basis, _ = tall_qr(matrix @ start)
    for _ in range(POWER_ITERATIONS):
        opposite, _ = tall_qr(matrix.T @ basis)
        basis, _ = tall_qr(matrix @ opposite)
    right, core = tall_qr((basis.T @ matrix).T)
    u, s, vt = thin_svd(core.T)
    return (basis @ u)[:, :rank], s[:rank], (vt @ right.T)[:rank]


def core_svd(pair: LoraPair) -> tuple[Float[Array, "I K"], Float[Array, " K"], Float[Array, "K O"]]:
    """The SVD ``U diag(s) Vt`` of one module's delta: QR of both factors, SVD of the R x R core.

    Args:
        pair: leaves [I, R] and [R, O], float32 or float64.

    Returns:
        U [I, K], s [K], Vt [K, O] with K = min(I, O, R).
    """
    left, left_core = tall_qr(pair.lora_a)
    right, right_core = tall_qr(pair.lora_b.mT)
    u, s, vt = thin_svd(left_core @ right_core.mT)
    return left @ u, s, vt @ right.mT


def leading_vectors(matrix: Float[Array, "rows columns"], count: int) -> Float[Array, "rows K"]:
    """The leading left singular vectors of a small matrix, K = min(rows, count).

    From its Gram matrix, at half the price of an SVD; those of singular values below about 1e-3 of
    the largest are orthonormal, but no more than that.
    """
    return _eigenvectors(matrix @ matrix.T)[:, ::-1][:, :count]


@jax.custom_batching.sequential_vmap
def _eigenvectors(symmetric: Float[Array, "rows rows"]) -> Float[Array, "rows rows"]:
    return jnp.linalg.eigh(symmetric)[1]


@jax.custom_batching.sequential_vmap
def thin_svd(
    matrix: Float[Array, "I O"],
) -> tuple[Float[Array, "I K"], Float[Array, " K"], Float[Array, "K O"]]:
    """``jnp.linalg.svd`` without the null space: U, s, Vt with K = min(I, O)."""
    u, s, vt = jnp.linalg.svd(matrix, full_matrices=False)
    return u, s, vt


def tall_qr(
    matrix: Float[Array, "rows columns"],
) -> tuple[Float[Array, "rows K"], Float[Array, "K columns"]]:
    """The reduced QR of a tall matrix, in blocks of rows (TSQR, arXiv:0808.2664).

    As exact as ``jnp.linalg.qr``, which does the blocks. Those of a narrow matrix fit the cache; of
    a wide one they would only be more work.
    """
    rows, columns = matrix.shape
    height = 4 * columns
    if rows <= height or columns >= WIDE:
        return _small_qr(matrix)
    count = -(-rows // height)
    filled = jnp.pad(matrix, ((0, count * height - rows), (0, 0)))  # rows of zeros change nothing
    inner, cores = jax.lax.map(_small_qr, filled.reshape(count, height, columns))
    outer, core = tall_qr(cores.reshape(count * columns, columns))
    orthonormal = inner @ outer.reshape(count, columns, columns)
    return orthonormal.reshape(count * height, columns)[:rows], core


@jax.custom_batching.sequential_vmap
def _small_qr(
    matrix: Float[Array, "rows columns"],
) -> tuple[Float[Array, "rows K"], Float[Array, "K columns"]]:
    orthonormal, core = jnp.linalg.qr(matrix)
    return orthonormal, core

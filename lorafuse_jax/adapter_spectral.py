"""The singular values and vectors of a low-rank update, without its dense delta."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.types import LoraPair


def core_svd(pair: LoraPair) -> tuple[Float[Array, "I K"], Float[Array, " K"], Float[Array, "K O"]]:
    """The SVD ``U diag(s) Vt`` of one module's delta: QR of both factors, SVD of the R x R core.

    Args:
        pair: leaves [I, R] and [R, O], float32 or float64.

    Returns:
        U [I, K], s [K], Vt [K, O] with K = min(I, O, R).
    """
    left, left_core = tall_qr(pair.lora_a)
    right, right_core = tall_qr(pair.lora_b.mT)
    u, s, vt = jnp.linalg.svd(left_core @ right_core.mT, full_matrices=False)
    return left @ u, s, vt @ right.mT


def tall_qr(
    matrix: Float[Array, "rows columns"],
) -> tuple[Float[Array, "rows K"], Float[Array, "K columns"]]:
    """The reduced QR of a tall matrix, in blocks of rows (arXiv:0808.2664, TSQR).

    Exact and backward stable like ``jnp.linalg.qr``, which it calls on blocks small enough that
    LAPACK stays on one thread: on 2 CPU cores the threads of XLA and of OpenBLAS wait for each
    other, and a 576 x 24 matrix takes 140 ms at once, 0.5 ms in blocks.
    """
    rows, columns = matrix.shape
    height = 4 * columns
    if rows <= height:
        return jnp.linalg.qr(matrix)
    count = -(-rows // height)
    filled = jnp.pad(matrix, ((0, count * height - rows), (0, 0)))  # rows of zeros change nothing
    inner, cores = jnp.linalg.qr(filled.reshape(count, height, columns))
    outer, core = tall_qr(cores.reshape(count * columns, columns))
    orthonormal = inner @ outer.reshape(count, columns, columns)
    return orthonormal.reshape(count * height, columns)[:rows], core

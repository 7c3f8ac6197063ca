"""LoRA-LEGO: the rank-one units of all members, clustered."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lorafuse_jax.adapter_spectral import core_svd
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.fusion.spectral.bases import is_there
from lorafuse_jax.types import LoraPair, UserError

ITERATIONS = 20


@operator(source="arXiv:2409.16167 (LoRA-LEGO)", lift="module", basis_invariant=False)
def lego(
    pair: LoraPair,
    *,
    weights: Float[Array, " S"],
    rank: int | None = None,
    units: Literal["factors", "svd"] = "factors",
    reweight: bool = True,
) -> LoraPair:
    """``sqrt(R / k) * sum_c a_c b_c^T`` over the k centroids ``[a_c; b_c]`` of all S * R units.

    A unit is a column of A and the row of B that it meets. k-means (Lloyd, 20 steps) starts from
    the longest unit and, one after the other, the unit farthest from all chosen. Members of weight
    zero and units of nothing, which pad a rank, take no part.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: of a member's units in their centroid.
        rank: the number k of clusters, at least 1; None is R.
        units: ``factors`` are the paper's, and change under ``A Q, Q^-1 B``. ``svd`` are the
            members' singular directions, the value split over both sides, and their sign chosen
            to meet the centroid: those depend on the delta alone.
        reweight: give each centroid the mean length of its units.

    Raises:
        UserError: the rank is below 1.

    Departures: a fixed start where the paper draws one. Weights are ours.
    """
    if rank is not None and rank < 1:
        raise UserError(f"lego: rank = {rank} is not possible: at least 1")
    _, fan_in, own_rank = pair.lora_a.shape
    if units == "svd":
        u, s, vt = jax.vmap(core_svd)(jax.lax.stop_gradient(pair))
        root = jnp.sqrt(s * jax.vmap(is_there)(s))[..., None]
        points = jnp.concatenate([u.mT * root, vt * root], axis=-1)
    else:
        points = jnp.concatenate([pair.lora_a.mT, pair.lora_b], axis=-1)
    shares = jnp.repeat(weights, points.shape[1])
    points = points.reshape(-1, points.shape[-1])
    shares = jnp.where((points == 0).all(-1), 0, shares)
    clusters = min(rank or own_rank, len(points))
    member_of, signs = _clusters(
        jax.lax.stop_gradient(points), clusters, jax.lax.stop_gradient(shares), units == "svd"
    )
    centroids, length = _centroids(points * signs[:, None], member_of, shares)
    if reweight:
        size = jax.lax.stop_gradient(jnp.linalg.norm(centroids, axis=-1))
        centroids *= jnp.where(size == 0, 1, length / jnp.where(size == 0, 1, size))[:, None]
    scale = weights.sum() * (own_rank / clusters) ** 0.5
    return LoraPair(scale * centroids[:, :fan_in].T, centroids[:, fan_in:])


def _clusters(
    points: Float[Array, "N P"], count: int, shares: Float[Array, " N"], either_sign: bool
) -> tuple[Float[Array, "N k"], Float[Array, " N"]]:
    """One-hot membership and the sign with which a point is in its cluster."""
    centres = _farthest_first(points, count, shares != 0, either_sign)

    def assign(centres: Float[Array, "k P"]) -> tuple[Array, Array]:
        products = points @ centres.T
        towards = jnp.sign(products) if either_sign else jnp.ones_like(products)
        towards = jnp.where(towards == 0, 1, towards)
        distance = (centres**2).sum(-1) - 2 * towards * products
        nearest = jax.nn.one_hot(distance.argmin(-1), count)
        return nearest, (nearest * towards).sum(-1)

    def step(centres: Array, _: None) -> tuple[Array, None]:
        nearest, signs = assign(centres)
        moved, _lengths = _centroids(points * signs[:, None], nearest, shares)
        empty = (shares @ nearest == 0)[:, None]
        return jnp.where(empty, centres, moved), None

    centres, _ = jax.lax.scan(step, centres, length=ITERATIONS)
    return assign(centres)


def _farthest_first(
    points: Float[Array, "N P"], count: int, eligible: Bool[Array, " N"], either_sign: bool
) -> Float[Array, "k P"]:
    squares = (points**2).sum(-1)
    chosen = [jnp.where(eligible, squares, -1).argmax()]
    distance = jnp.where(eligible, jnp.inf, -jnp.inf)
    for _ in range(count - 1):
        products = points @ points[chosen[-1]]
        near = jnp.abs(products) if either_sign else products
        distance = jnp.minimum(distance, squares + squares[chosen[-1]] - 2 * near)
        chosen.append(distance.argmax())
    return points[jnp.stack(chosen)]


def _centroids(
    points: Float[Array, "N P"], member_of: Float[Array, "N k"], shares: Float[Array, " N"]
) -> tuple[Float[Array, "k P"], Float[Array, " k"]]:
    """Weighted means of the clusters and of the lengths of their points; zero where empty."""
    pulls = shares[:, None] * member_of
    mass = pulls.sum(0)
    pulls = pulls / jnp.where(mass == 0, 1, mass)
    lengths = jnp.linalg.norm(jax.lax.stop_gradient(points), axis=-1)
    return pulls.T @ points, pulls.T @ lengths

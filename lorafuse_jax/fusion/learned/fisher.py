"""Fisher merging: entries averaged by how much each member's likelihood depends on them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.adapter import to_delta
from lorafuse_jax.fusion.entries import fuse_rows
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair


@operator(
    source="arXiv:2111.09832 (Fisher merging), equation 4",
    lift="module",
    stream=True,
    statistic="Fisher information of the entries, [S, L, I, O]",
)
def fisher(
    pair: LoraPair, *, weights: Float[Array, " S"], statistic: Float[Array, "S I O"]
) -> DenseDelta:
    """``sum(w) * sum_s w_s F_s delta_s / sum_s w_s F_s``, entry by entry.

    Where no member has any information the weighted mean stands.

    Args:
        pair: one module of one layer, leaves [S, I, R] and [S, R, O].
        weights: one a member.
        statistic: diagonal Fisher information of each member, not negative; see
            ``fisher_information``.

    Departures: none; a frozen base has no information and drops out of the paper's average.
    """

    def fuse_row(row: Float[Array, "S O"], information: Float[Array, "S O"]) -> Array:
        shares = weights[:, None] * information
        known = shares.sum(0) > 0
        shares = jnp.where(known, shares, weights[:, None])
        return weights.sum() * (shares * row).sum(0) / shares.sum(0)

    return DenseDelta(fuse_rows(pair, fuse_row, statistic.swapaxes(0, 1)))


def fisher_information(
    log_likelihood: Callable[[Adapter, Any], Float[Array, ""]],
    adapter: Adapter,
    examples: Sequence[Any],
) -> dict[str, Float[Array, "L I O"]]:
    """The diagonal empirical Fisher information of the entries of one member's deltas.

    ``mean over examples of (d log p(example) / d delta)^2``. Stack the members' on axis 0 for
    ``fisher``. It is dense: as large as the adapted kernels.

    Args:
        log_likelihood: of one example, summed over its tokens, under an adapter of DenseDeltas.
        adapter: the member, leaves [L, ...].
        examples: of training or validation data, all of one shape, so that it is compiled once.
    """
    gradient = jax.jit(jax.grad(log_likelihood))
    dense = to_delta(adapter)
    total = jax.tree.map(jnp.zeros_like, dense)
    for example in examples:
        add = lambda sums, g: sums + g**2  # noqa: E731
        total = jax.tree.map(add, total, gradient(dense, example))
    return {module: update[0] / len(examples) for module, update in total.items()}

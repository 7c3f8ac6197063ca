"""SeedLoRA as submitted to ICLR 2025: average, then give the entries a reference distribution."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.fusion.moments import (
    Scope,
    combine_layers,
    entry_count,
    entry_sums,
    inner_products,
    ratio,
    root,
    scoped,
)
from lorafuse_jax.fusion.operator import operator
from lorafuse_jax.types import Adapter, LoraPair, UserError


@operator(
    source="SeedLoRA, ICLR 2025 submission 3188 (version 1)", lift="tree", sign_equivariant=False
)
def distribution_matching(
    stacked: dict[str, LoraPair],
    *,
    weights: Float[Array, " S"],
    reference: Literal["mean", "best"] = "mean",
    best: int | None = None,
    scope: Scope = "module",
) -> Adapter:
    """``sigma_ref * (delta_avg - mu) / sigma + mu_ref`` with ``delta_avg = sum_s w_s delta_s``.

    (mu, sigma) are mean and standard deviation of delta_avg's entries, computed exactly from the
    factors. A shift of all entries is a constant matrix, of rank 1, so the result is exactly a
    LoraPair of rank S * R + 1.

    Args:
        stacked: leaves [S, L, I, R] and [S, L, R, O].
        weights: one a member.
        reference: (mu_ref, sigma_ref) are the weighted average of the members' own means and
            deviations, or those of the ``best`` member.
        best: index of the member that is best on validation data, never on test data.
        scope: statistics of each module of each layer, or of the whole adapter.

    Raises:
        UserError: ``reference="best"`` without a valid ``best``.

    Departures: the exact form is not public; open points are the options. Entries that are all
    equal (sigma = 0) have no shape to match and are not rescaled.
    """
    references = weights if reference == "mean" else _only(best, weights.shape[0])
    counts = {
        m: jnp.full(pair[0].shape[1], float(entry_count(pair))) for m, pair in stacked.items()
    }
    sums = {module: entry_sums(pair) for module, pair in stacked.items()}
    products = {module: inner_products(pair) for module, pair in stacked.items()}
    counts, sums, products = (scoped(part, scope) for part in (counts, sums, products))
    matched: Adapter = {}
    for module, pair in stacked.items():
        moments = (counts[module], sums[module], products[module])
        deviation, mean = _deviation_and_mean(weights, *moments)
        own = jax.vmap(_deviation_and_mean, in_axes=(0, None, None, None))
        wanted = jnp.einsum("s,spl->pl", references, own(jnp.eye(weights.shape[0]), *moments))
        factor = ratio(wanted[0], deviation)
        average = combine_layers(pair, weights, factor)
        matched[module] = _shift(average, wanted[1] - factor * mean)
    return matched


def _only(best: int | None, members: int) -> Float[Array, " S"]:
    """All the weight on the best member."""
    if best is None or not 0 <= best < members:
        raise UserError(
            "distribution_matching: reference=best needs best, the index of the member that is "
            f"best on validation data, 0 to {members - 1}; it is {best}"
        )
    return jnp.eye(members)[best]


def _deviation_and_mean(
    weights: Float[Array, " S"],
    count: Float[Array, " L"],
    sums: Float[Array, "L S"],
    products: Float[Array, "L S S"],
) -> Float[Array, "2 L"]:
    """Standard deviation and mean of the entries of ``sum_s w_s delta_s``."""
    mean = (sums @ weights) / count
    square = jnp.einsum("s,lst,t->l", weights, products, weights) / count
    variance = square - mean**2
    noise = 8 * jnp.finfo(square.dtype).eps * square  # below it the entries are all equal
    return jnp.stack([root(jnp.where(variance > noise, variance, 0)), mean])


def _shift(pair: LoraPair, shift: Float[Array, " _"]) -> LoraPair:
    """``delta + shift``, shift [L] or [1]: a column of ones times a constant row."""
    ones = jnp.ones_like(pair.lora_a[..., :1])
    row = jnp.broadcast_to(shift[:, None, None], pair.lora_b[:, :1].shape)
    return LoraPair(
        jnp.concatenate([pair.lora_a, ones], axis=-1),
        jnp.concatenate([pair.lora_b, row], axis=-2),
    )

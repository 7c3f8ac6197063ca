"""Weighted sums of the same members over one base: points differ in their coefficients alone.

``delta = sum_s c_s A_s B_s`` is one product with all A side by side, a scale for each inner column
and one product with all B below each other. Vmapped over points, the members' factors and the base
are shared by all of them, so that a point costs its coefficients and nothing else.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lorafuse_jax.ends import embedding_hook, head_hook, layers_alone
from lorafuse_jax.lora import LAYERS
from lorafuse_jax.models.decoder import LayerHook
from lorafuse_jax.models.head import HeadHook
from lorafuse_jax.types import EMBEDDING, HEAD, Adapter, DenseDelta, LoraPair

Coefficients: TypeAlias = dict[str, Float[Array, "L S"]]
"""Module path -> the weight of each member's delta in each layer."""


def side_by_side(stacked: Adapter) -> Adapter:
    """Members [S, L, ...] as ``mixture_hook`` reads them, layer by layer.

    Low-rank ones have ``lora_a`` [L, I, S R] and ``lora_b`` [L, S R, O]; dense ones [L, S, I, O].
    """
    joined: Adapter = {}
    for module, update in stacked.items():
        if isinstance(update, LoraPair):
            members, layers, fan_in, rank = update.lora_a.shape
            joined[module] = LoraPair(
                update.lora_a.transpose(1, 2, 0, 3).reshape(layers, fan_in, members * rank),
                update.lora_b.swapaxes(0, 1).reshape(layers, members * rank, -1),
            )
        else:
            joined[module] = DenseDelta(update.delta.swapaxes(0, 1))
    return joined


def mixture_hook(joined: Adapter, coefficients: Coefficients) -> LayerHook:
    """What makes the decoder's embedding and projections add ``sum_s c_s delta_s``.

    The head's sum comes after the layers, by ``mixture_head_hook``.

    Args:
        joined: from ``side_by_side``.
        coefficients: of one point.
    """

    def interceptor(per_layer: tuple[Adapter, dict[str, Array]]) -> Callable:
        updates, own = per_layer

        def intercept(next_fun, args, kwargs, context):
            y = next_fun(*args, **kwargs)
            module = LAYERS + "/".join(context.module.path)
            if module not in updates or context.method_name != "__call__":
                return y
            return y + _apply(updates[module], own[module], args[0])

        return intercept

    per_layer = (layers_alone(joined), layers_alone(coefficients))
    return LayerHook(per_layer, interceptor, embedding_hook(_end(EMBEDDING, joined, coefficients)))


def mixture_head_hook(joined: Adapter, coefficients: Coefficients) -> HeadHook | None:
    """What makes the head's projection add its sum; see ``mixture_hook``. None without one."""
    return head_hook(_end(HEAD, joined, coefficients))


def _end(module: str, joined: Adapter, coefficients: Coefficients) -> LoraPair | DenseDelta | None:
    """An end's sum as one update, A shared by all points; None if the members have none."""
    if module not in joined:
        return None
    update, [weights] = joined[module], coefficients[module]
    if isinstance(update, DenseDelta):
        return DenseDelta(jnp.einsum("s,sio->io", weights, update.delta[0])[None])
    return update._replace(lora_b=_columns(update, weights)[:, None] * update.lora_b)


def _apply(joined: LoraPair | DenseDelta, weights: Float[Array, " S"], x: Array) -> Array:
    if isinstance(joined, DenseDelta):  # summed first: S products with x would cost more
        return x @ jnp.einsum("s,sio->io", weights, joined.delta).astype(x.dtype)
    inner = (x @ joined.lora_a.astype(x.dtype)) * _columns(joined, weights)
    return inner.astype(x.dtype) @ joined.lora_b.astype(x.dtype)


def _columns(joined: LoraPair, weights: Float[Array, " S"]) -> Float[Array, " SR"]:
    """A member's weight for each of its inner columns."""
    return jnp.repeat(weights, joined.lora_a.shape[-1] // weights.shape[0])


ROUNDING = 1e-5
"""By how much, relative to the largest entry, a sum in float32 may differ from another."""


def read_coefficients(
    fused: LoraPair | DenseDelta, members: LoraPair
) -> tuple[Float[Array, "L S"], Bool[Array, ""]]:
    """The weights of one module's members in what an operator made of them, if it is their sum.

    Operators that only weigh (``mean``, ``scaled_mean``, ``slerp``) leave the members' A side by
    side and put their weights into B, so that these can be read off again.

    Args:
        fused: the operator's result, leaves [L, ...].
        members: what it was made of, [S, L, ...].

    Returns:
        The weights, zero for a member that is zero, and whether ``fused`` is their sum at all.
    """
    size, layers = members.lora_a.shape[:2]
    joined = side_by_side({"": members})[""]
    nothing = jnp.zeros((layers, size))
    if not isinstance(fused, LoraPair) or fused.lora_a.shape != joined[0].shape:
        return nothing, jnp.array(False)
    own = members.lora_b.swapaxes(0, 1)
    found = fused.lora_b.reshape(own.shape)
    squares = (own * own).sum((-2, -1))
    weights = (found * own).sum((-2, -1)) / jnp.where(squares == 0, 1, squares)
    rest = jnp.abs(found - weights[..., None, None] * own).max()
    is_sum = jnp.all(fused.lora_a == joined[0]) & (rest <= ROUNDING * jnp.abs(found).max())
    return weights, is_sum

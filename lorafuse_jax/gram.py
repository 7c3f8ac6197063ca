"""Gram matrices of the inputs of a model's projections, collected as a gradient.

The layers are scanned, and a hook cannot hand anything out of a scan; but a gradient comes out of
it. So every projection gets a probe of zeros whose "gradient" is declared to be ``x^T x``.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lorafuse_jax.lora import LAYERS, apply_update
from lorafuse_jax.models.decoder import LayerHook
from lorafuse_jax.types import Adapter


def gram_hook(
    adapter: Adapter, probes: Mapping[str, Float[Array, "L I I"]], counted: Bool[Array, "B T"]
) -> LayerHook:
    """As ``adapter_hook``; differentiated in a probe it gives ``x^T x`` over the counted tokens.

    Args:
        adapter: leaves [L, ...], with the scale in them.
        probes: zeros, for each module to look at.
        counted: which tokens.
    """

    def interceptor(per_layer: tuple[Adapter, dict[str, Array]]) -> Callable:
        updates, layer_probes = per_layer

        def intercept(next_fun, args, kwargs, context):
            y = next_fun(*args, **kwargs)
            module = LAYERS + "/".join(context.module.path)
            if module not in updates or context.method_name != "__call__":
                return y
            x = args[0]
            y = y + apply_update(updates[module], x)
            return y + _record(jnp.where(counted[..., None], x, 0), layer_probes[module])

        return intercept

    return LayerHook((adapter, dict(probes)), interceptor)


@jax.custom_vjp
def _record(x: Array, probe: Array) -> Array:
    return jnp.zeros((), x.dtype)


def _record_forward(x: Array, probe: Array) -> tuple[Array, Array]:
    return jnp.zeros((), x.dtype), x


def _record_backward(x: Array, cotangent: Array) -> tuple[Array, Array]:
    flat = x.reshape(-1, x.shape[-1])
    return jnp.zeros_like(x), flat.T @ flat


_record.defvjp(_record_forward, _record_backward)

"""DoRA (arXiv 2402.09353): direction and magnitude of a kernel's columns, trained apart.

``kernel' = m * (kernel + A B) / ||kernel + A B||`` with the norm over the inputs of each output
[O] (columns of the paper's weight, by PEFT's reading: one number an output). In training, no
gradient goes through the norm (section 4.3). A trained one is, relative to the base, a dense update
of full rank.
"""

import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lorafuse_jax.lora import LAYERS, LoraRule, apply_update, drop, match_rules
from lorafuse_jax.models.decoder import LayerHook
from lorafuse_jax.models.quantized import Int8Kernel, Kernel, Nf4Kernel, dequantize
from lorafuse_jax.types import ENDS, Adapter, DenseDelta, DoraPair, LoraPair, Params, UserError


def with_magnitudes(stacked: Adapter, params: Params) -> dict[str, DoraPair]:
    """Fresh adapters, whose B is zero, as DoRA's: magnitudes are the norms that the base has.

    Args:
        stacked: LoraPairs with leaves [S, L, ...].
        params: base weights.
    """
    result = {}
    for module, pair in stacked.items():
        assert isinstance(pair, LoraPair)
        norms = jnp.linalg.norm(_whole(_kernel(params, module)), axis=-2)
        magnitude = jnp.tile(norms, (pair.lora_a.shape[0], 1, 1))
        result[module] = DoraPair(*pair, magnitude)
    return result


def dora_deltas(adapter: dict[str, DoraPair], params: Params) -> Adapter:
    """What the adapters add to the base, exactly: dense.

    Args:
        adapter: with its scale, leaves [L, ...].
        params: the base weights that it was trained on.

    Raises:
        UserError: it adapts the embedding or the output head.
    """
    if ends := [module for module in ENDS if module in adapter]:
        raise UserError(
            f"{ends[0]}: DoRA is computed for projections of the layers alone; merge that adapter "
            "with PEFT"
        )

    def one_layer(layer: tuple[DoraPair, Kernel]) -> Array:
        update, kernel = layer
        before = _whole(kernel)
        turned = before + update.lora_a @ update.lora_b
        return turned * (update.magnitude / jnp.linalg.norm(turned, axis=0)) - before

    return {
        module: DenseDelta(jax.lax.map(one_layer, (update, _kernel(params, module))))
        for module, update in adapter.items()
    }


def dora_hook(
    adapter: dict[str, DoraPair],
    *,
    rules: Sequence[LoraRule] = (),
    dropout_key: Key[Array, ""] | None = None,
) -> LayerHook:
    """As ``lora.adapter_hook``, for updates with magnitudes.

    Departures: dropout is on the input of ``A B`` alone. PEFT drops inputs of the rescaled base as
    well, for which it computes the base's product a second time.
    """
    rates, keys = {}, None
    if dropout_key is not None and any(rule.dropout for rule in rules):
        rates = {module: rule.dropout for module, rule in match_rules(adapter, rules).items()}
        keys = jax.random.split(dropout_key, jax.tree.leaves(adapter)[0].shape[0])

    def interceptor(per_layer: tuple[dict[str, DoraPair], Array | None]) -> Callable:
        updates, key = per_layer

        def intercept(next_fun, args, kwargs, context):
            y = next_fun(*args, **kwargs)
            module = LAYERS + "/".join(context.module.path)
            if module not in updates or context.method_name != "__call__":
                return y
            x, update = args[0], updates[module]
            if key is not None and rates[module]:
                x = drop(x, rates[module], jax.random.fold_in(key, zlib.crc32(module.encode())))
            norm = _column_norm(context.module.get_variable("params", "kernel"), update)
            gain = (update.magnitude / jax.lax.stop_gradient(norm)).astype(y.dtype)
            bias = context.module.get_variable("params", "bias") if context.module.use_bias else 0
            low = apply_update(LoraPair(update.lora_a, update.lora_b), x)
            return (y - bias + low) * gain + bias

        return intercept

    return LayerHook((adapter, keys), interceptor)


def _column_norm(kernel: Kernel, update: DoraPair) -> Float[Array, " O"]:
    """``||kernel + A B||`` of each output, without making the sum, which every seed would need.

    ``||w||^2 + 2 <w, A b> + <b, A^T A b>``: the kernel is read once for all seeds.
    """
    whole = _whole(kernel)
    lora_a, lora_b = update.lora_a, update.lora_b
    cross = jnp.sum((whole.T @ lora_a).T * lora_b, axis=0)
    own = jnp.sum((lora_a.T @ lora_a @ lora_b) * lora_b, axis=0)
    return jnp.sqrt(jnp.sum(whole * whole, axis=0) + 2 * cross + own)


def _whole(kernel: Kernel) -> Float[Array, "*L I O"]:
    if isinstance(kernel, Int8Kernel | Nf4Kernel):
        return dequantize(kernel, jnp.float32)
    return kernel.astype(jnp.float32)


def _kernel(params: Params, module: str) -> Kernel:
    node = params
    for name in module.split("/"):
        node = node[name]
    return node["kernel"]

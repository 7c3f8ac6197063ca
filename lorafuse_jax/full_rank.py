"""Dense updates as pairs of full rank, which operators take, and back: both exact."""

import jax.numpy as jnp

from lorafuse_jax.adapter import to_delta
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair


def as_pairs(adapter: Adapter) -> Adapter:
    """Every dense update times an identity on its shorter side: rank min(I, O)."""
    pairs: Adapter = {}
    for module, update in adapter.items():
        if isinstance(update, DenseDelta):
            delta = update.delta
            *leading, fan_in, fan_out = delta.shape
            size = min(fan_in, fan_out)
            identity = jnp.broadcast_to(jnp.eye(size, dtype=delta.dtype), (*leading, size, size))
            wide = fan_in <= fan_out
            update = LoraPair(identity, delta) if wide else LoraPair(delta, identity)
        pairs[module] = update
    return pairs


def as_deltas(adapter: Adapter) -> Adapter:
    """Every pair of full rank or more as the dense update that it is, which is smaller."""
    return {
        module: to_delta({module: update})[module] if _is_full(update) else update
        for module, update in adapter.items()
    }


def _is_full(update: LoraPair | DenseDelta) -> bool:
    if isinstance(update, DenseDelta):
        return False
    rank = update.lora_a.shape[-1]
    return rank >= min(update.lora_a.shape[-2], update.lora_b.shape[-1])

"""Random stacked members and dense views of them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.types import LoraPair

SHAPES = {"layers/mlp/up_proj": (9, 12)}


def random_members(
    rng: np.random.Generator, members: int = 3, rank: int = 2, layers: int = 2, shapes=SHAPES
) -> dict[str, Any]:
    """Leaves [S, L, I, R] and [S, L, R, O] with entries of either sign."""

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return {
        module: LoraPair(draw(members, layers, fan_in, rank), draw(members, layers, rank, fan_out))
        for module, (fan_in, fan_out) in shapes.items()
    }


def random_statistic(kind: str, stacked: Mapping[str, Any]) -> dict[str, jax.Array]:
    """What data would tell of the members: positive numbers an entry, or Gram matrices."""
    rng = np.random.default_rng(23)
    drawn = {}
    for module, pair in stacked.items():
        members, layers, fan_in, _ = pair.lora_a.shape
        if "Gram" in kind:
            inputs = rng.normal(size=(members, layers, 4 * fan_in, fan_in))
            values = inputs.swapaxes(-1, -2) @ inputs
        else:
            values = rng.uniform(0.5, 2, size=(members, layers, fan_in, pair.lora_b.shape[-1]))
        drawn[module] = jnp.asarray(values, jnp.float32)
    return drawn


def random_weights(rng: np.random.Generator, members: int = 3) -> jax.Array:
    """Positive and different, with sum 1."""
    raw = rng.uniform(0.5, 1.5, size=members)
    return jnp.asarray(raw / raw.sum(), jnp.float32)


def repeat(stacked: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Member 0, several times."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], times, axis=0), stacked)


def dense(adapter: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Module -> deltas [..., I, O] in double precision."""
    deltas = {}
    for module, update in adapter.items():
        leaves = [np.asarray(leaf, np.float64) for leaf in update]
        deltas[module] = leaves[0] @ leaves[1] if isinstance(update, LoraPair) else leaves[0]
    return deltas


def assert_same(actual: Any, expected: Any, tolerance: float) -> None:
    """Equal deltas, relative to the largest entry of each module."""
    deltas = dense(actual)
    if not isinstance(next(iter(expected.values())), np.ndarray):
        expected = dense(expected)
    assert deltas.keys() == expected.keys()
    for module, delta in deltas.items():
        assert delta.shape == expected[module].shape
        error = np.abs(delta - expected[module]).max() / np.abs(expected[module]).max()
        assert error < tolerance, f"{module}: relative error {error:.1e}"


def by_layer(stacked: Mapping[str, Any], reference) -> dict[str, np.ndarray]:
    """``reference(list of [I, O])`` of each module and layer, stacked over layers."""
    return {
        module: np.stack([reference(list(deltas[:, layer])) for layer in range(deltas.shape[1])])
        for module, deltas in dense(stacked).items()
    }


def members_of(*matrices) -> dict[str, Any]:
    """One module of one layer whose members are exactly these matrices."""
    stacked = jnp.asarray(matrices, jnp.float32)[:, None]
    members, _, rows, _ = stacked.shape
    identity = jnp.broadcast_to(jnp.eye(rows), (members, 1, rows, rows))
    return {"layers/m": LoraPair(identity, stacked)}

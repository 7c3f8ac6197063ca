"""What the model says of its arrays while a program is traced under a mesh; nothing without one.

XLA finds where arrays lie from where the inputs do. These constraints settle what it would guess
wrong: the stream of hidden states is whole on every device of ``model``, and a layer's weights are
brought together over ``data`` when they are used, not when they are loaded.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import PartitionSpec
from jax.tree_util import DictKey

from lorafuse_jax.parallel.mesh import DATA, MODEL, SEED
from lorafuse_jax.parallel.rules import Rules

FREE = PartitionSpec.UNCONSTRAINED


def whole_width(x: jax.Array) -> jax.Array:
    """Hidden states [..., D], D on every device; rows and tokens lie where they lie.

    On TPUs XLA else moves examples between the devices of ``data`` where the embedding is divided.
    """
    if _mesh() is None:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*(FREE,) * (x.ndim - 1), None))


def gathered(tree: Any, units: Mapping[str, int], path: str) -> Any:
    """Base parameters as they are used: no longer divided over ``data``.

    Args:
        tree: nested dicts of parameters; those of layers without the axis L.
        units: see ``Rules``.
        path: of the tree.
    """
    mesh = _mesh()
    if mesh is None:
        return tree
    rules, layers = Rules(mesh, units), path == "layers"

    def one(keys: Any, leaf: jax.Array) -> jax.Array:
        names = [str(key.key) for key in keys if isinstance(key, DictKey)]
        shape = (1, *leaf.shape) if layers else leaf.shape
        quantized = not isinstance(keys[-1], DictKey)
        spec = rules.spec("/".join([path, *names]), shape, quantized)
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(*spec[layers:]))

    return jax.tree_util.tree_map_with_path(one, tree)


def dealt_rows(x: jax.Array, rows: int, heads: int | None = None) -> jax.Array:
    """Rows of a batch dealt out over ``seed`` and ``data``, and heads over ``model``.

    Args:
        x: any.
        rows: its axis of rows.
        heads: its axis of heads, if it has one.
    """
    mesh = _mesh()
    if mesh is None:
        return x
    spec: list[Any] = [None] * x.ndim
    if x.shape[rows] % row_ways() == 0:
        spec[rows] = (SEED, DATA)
    if heads is not None and x.shape[heads] % mesh.shape[MODEL] == 0:
        spec[heads] = MODEL
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def row_ways() -> int:
    """How many groups of devices share the rows of a batch."""
    return axis_size(SEED) * axis_size(DATA)


def axis_size(axis: str) -> int:
    """Ways of an axis of the mesh; 1 without one."""
    mesh = _mesh()
    return 1 if mesh is None else mesh.shape[axis]


def on_mesh() -> bool:
    """Whether there are several devices."""
    mesh = _mesh()
    return mesh is not None and mesh.size > 1


def _mesh() -> Any:
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if MODEL in mesh.axis_names else None

"""Where every array lies on the mesh: one table of parameter paths, for all families of models.

A path says what each axis of the parameter *is*; what an axis is says which mesh axis may divide
it. Adapters follow the kernels that they belong to, optimiser states and gradients the adapters.
An axis that the mesh cannot divide into whole units (heads, for projections of attention) is not
divided: each device has all of it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lorafuse_jax.parallel.mesh import DATA, MODEL, SEED
from lorafuse_jax.types import EMBEDDING, HEAD, DenseDelta, DoraPair, LoraPair

Axes = tuple[str | None, ...]

TABLE: tuple[tuple[str, Axes], ...] = (
    (r"embed_tokens/embedding", ("vocab", "width")),
    (r"lm_head/kernel", ("width", "vocab")),
    (r"layers/.*/q_proj/kernel", (None, "width", "heads")),
    (r"layers/.*/[kv]_proj/kernel", (None, "width", "kv_heads")),
    (r"layers/.*/o_proj/kernel", (None, "heads", "width")),
    (r"layers/.*/(gate|up)_proj/kernel", (None, "width", "ffn")),
    (r"layers/.*/down_proj/kernel", (None, "ffn", "width")),
    (r"layers/.*/q_proj/bias", (None, "heads")),
    (r"layers/.*/[kv]_proj/bias", (None, "kv_heads")),
    (r"layers/.*/(gate|up)_proj/bias", (None, "ffn")),
)
"""Path of a parameter -> what its axes are; those of no row are on every device whole."""

DIVIDED_BY = {"vocab": MODEL, "heads": MODEL, "kv_heads": MODEL, "ffn": MODEL, "width": DATA}
"""What an axis is -> the axis of the mesh that divides it; ``width`` only under FSDP."""


@dataclass(frozen=True)
class Rules:
    """The table, applied to a model's shapes on a mesh.

    Attributes:
        mesh: with the axes seed, data and model.
        units: what an axis is -> into how many units it may be divided at most: heads.
        fsdp: whether the base is divided over ``data`` as well.
    """

    mesh: Mesh | AbstractMesh
    units: Mapping[str, int]
    fsdp: bool = False

    def params(self, shapes: Mapping[str, tuple[int, ...]], quantized: bool) -> dict[str, Any]:
        """Slash-joined path -> sharding of every base parameter.

        Args:
            shapes: of the parameters, as if none were quantised.
            quantized: whether the kernels of the layers are.
        """
        return {
            path: self._placed(self.spec(path, shape, quantized and is_layer_kernel(path)))
            for path, shape in shapes.items()
        }

    def trained(self, tree: Any) -> Any:
        """A sharding for every leaf of a state, or of an adapter, whose first axis is S.

        Args:
            tree: of arrays or their shapes. Updates are told by their types and module paths;
                dicts nested like the base's parameters by their paths.
        """
        return self._trained(tree, ())

    def batch(self, tree: Any) -> Any:
        """Of batches [S, A, G, ...]: seeds, and the parts G of each step's examples, divided."""
        return jax.tree.map(lambda _: self._placed((SEED, None, DATA)), tree)

    def shared_batch(self, tree: Any) -> Any:
        """Of batches [G, ...] that all seeds see."""
        return jax.tree.map(lambda _: self._placed((DATA,)), tree)

    def of_seeds(self, tree: Any) -> Any:
        """Of leaves [S, ...] of which only S is divided."""
        return jax.tree.map(lambda _: self._placed((SEED,)), tree)

    def spec(
        self, path: str, shape: tuple[int, ...], quantized: bool = False, *, gathered: bool = False
    ) -> tuple:
        """Which mesh axis divides each axis of a parameter.

        Args:
            path: slash-joined.
            shape: of the parameter.
            quantized: it is a quantised kernel, whose input features are packed: only its output
                features are divided then.
            gathered: as it is when it is used, with what FSDP divides brought together.
        """
        axes = next((axes for row, axes in TABLE if re.fullmatch(row, path)), (None,) * len(shape))
        fsdp = self.fsdp and not gathered
        spec = tuple(
            self._divider(axis, size, fsdp) for axis, size in zip(axes, shape, strict=True)
        )
        if not quantized:
            return spec
        both = tuple(axis for axis in (MODEL, DATA) if axis in spec)
        ways = math.prod(self.mesh.shape[axis] for axis in both)
        return (*(None,) * (len(shape) - 1), both if both and shape[-1] % ways == 0 else None)

    def _divider(self, axis: str | None, size: int, fsdp: bool) -> str | None:
        if axis is None or (axis == "width" and not fsdp):
            return None
        ways = self.mesh.shape[DIVIDED_BY[axis]]
        return DIVIDED_BY[axis] if self.units.get(axis, size) % ways == 0 else None

    def _trained(self, node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, LoraPair | DoraPair | DenseDelta):
            return self._update(node, "/".join(path))
        if isinstance(node, Mapping):
            return {
                key: self._trained(child, (*path, *key.split("/"))) for key, child in node.items()
            }
        if isinstance(node, tuple):
            children = [self._trained(child, path) for child in node]
            return type(node)(*children) if hasattr(node, "_fields") else tuple(children)
        if node is None:
            return None
        spec = self.spec("/".join(path), node.shape[1:]) if node.ndim > 1 else ()
        return self._placed((SEED, *spec))

    def _update(self, update: Any, module: str) -> Any:
        """Of an update [S, L, ...]: as the kernel [L, I, O], or the table of the embedding."""
        if isinstance(update, DenseDelta):
            fan_in, fan_out = update.delta.shape[-2:]
        else:
            fan_in, fan_out = update.lora_a.shape[-2], update.lora_b.shape[-1]
        ends = {EMBEDDING: "embed_tokens/embedding", HEAD: "lm_head/kernel"}
        path = ends.get(module, f"{module}/kernel")
        shape = (fan_in, fan_out) if module in ends else (1, fan_in, fan_out)
        rows, columns = self.spec(path, shape, gathered=True)[-2:]
        each = {
            "delta": (SEED, None, rows, columns),
            "lora_a": (SEED, None, rows, None),
            "lora_b": (SEED, None, None, columns),
            "magnitude": (SEED, None, columns),
        }
        return type(update)(*(self._placed(each[name]) for name in update._fields))

    def _placed(self, spec: tuple) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*spec))


def is_layer_kernel(path: str) -> bool:
    """Whether it is what adapters attach to, and what may be quantised."""
    return path.startswith("layers/") and path.endswith("/kernel")

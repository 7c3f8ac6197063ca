"""The factors of adapters that are to be fused, stacked some layers of one module at a time.

A stack has ``like``, an adapter of the shapes and types of leaves [S, L, ...], and ``read``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.formats.peft_layers import Extent, PeftLayers
from lorafuse_jax.types import Adapter, LoraPair, UserError


class HeldStack:
    """Members that are in memory."""

    def __init__(self, stacked: Adapter) -> None:
        """Take them, leaves [S, L, ...]."""
        self._stacked = stacked
        self.like: Adapter = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stacked
        )

    def read(self, module: str, first: int, count: int) -> LoraPair:
        """Layers of a module from ``first`` on, leaves [S, count, ...]."""
        pair = self._stacked[module]
        assert isinstance(pair, LoraPair)
        if count == pair.lora_a.shape[1]:
            return pair
        return LoraPair(*(leaf[:, first : first + count] for leaf in pair))


class _Shape(NamedTuple):
    """L, I, O of a module: what members must agree in."""

    layers: int
    fan_in: int
    fan_out: int


class StoredStack:
    """Members on disk. Smaller ranks are padded with zeros, and layers that are not there are."""

    def __init__(
        self, members: Sequence[PeftLayers], extents: Sequence[Mapping[str, Mapping[int, Extent]]]
    ) -> None:
        """Reckon the shapes.

        Args:
            members: the files.
            extents: of each, of ``PeftLayers.extents``.

        Raises:
            UserError: members differ in modules or shapes; names the member and the module.
        """
        self._members = tuple(members)
        shapes = [_shapes(*pair) for pair in zip(members, extents, strict=True)]
        for number, own in enumerate(shapes):
            _check_like(shapes[0], own, number)
        self.like: Adapter = {}
        for module, (layers, fan_in, fan_out) in shapes[0].items():
            every = [extent for own in extents for extent in own[module].values()]
            dtype = jnp.result_type(*{extent.dtype for extent in every})
            rank = max(extent.rank for extent in every)
            lead = (len(members), layers)
            self.like[module] = LoraPair(
                jax.ShapeDtypeStruct((*lead, fan_in, rank), dtype),  # pyrefly: ignore
                jax.ShapeDtypeStruct((*lead, rank, fan_out), dtype),  # pyrefly: ignore
            )

    def read(self, module: str, first: int, count: int) -> LoraPair:
        """As ``HeldStack.read``.

        Raises:
            UserError: a file is no longer what it was.
        """
        whole = self.like[module]
        assert isinstance(whole, LoraPair)
        shapes = ((leaf.shape[0], count, *leaf.shape[2:]) for leaf in whole)
        lora_a, lora_b = (np.zeros(shape, whole.lora_a.dtype) for shape in shapes)
        for number, member in enumerate(self._members):
            for layer in member.adapted(module):
                if first <= layer < first + count:
                    a, b = member.read(module, layer)
                    lora_a[number, layer - first, :, : a.shape[1]] = a
                    lora_b[number, layer - first, : b.shape[0]] = b
        return LoraPair(jnp.asarray(lora_a), jnp.asarray(lora_b))


MemberStack: TypeAlias = HeldStack | StoredStack


def _shapes(member: PeftLayers, extents: Mapping[str, Mapping[int, Extent]]) -> dict[str, _Shape]:
    shapes: dict[str, _Shape] = {}
    for module, layers in member.layers.items():
        first = next(iter(extents[module].values()))
        shapes[module] = _Shape(layers, first.fan_in, first.fan_out)
    return shapes


def _check_like(first: Mapping[str, _Shape], own: Mapping[str, _Shape], number: int) -> None:
    """That of which all is zero counts here as well: its place in the tree must be the same."""
    for module in sorted(first.keys() ^ own.keys()):
        where = "lacks" if module in first else "has, member 0 has not,"
        raise UserError(f"member {number} {where} module {module}; members must agree")
    for module, shape in own.items():
        if shape != first[module]:
            raise UserError(
                f"{module}: member {number} is [L, I, O] = {list(shape)}, member 0 "
                f"{list(first[module])}; they were made for different models"
            )

"""An adapter that comes in pieces: some layers of one module at a time."""

from collections.abc import Iterator
from typing import NamedTuple

from lorafuse_jax.types import Adapter, DenseDelta, LoraPair


class Piece(NamedTuple):
    """Consecutive layers of a module.

    Attributes:
        module: its path.
        first: the number of the first layer.
        update: leaves [L, ...] of those layers.
    """

    module: str
    first: int
    update: LoraPair | DenseDelta


def pieces_of(adapter: Adapter) -> Iterator[Piece]:
    """An adapter that is in memory, module by module."""
    for module, update in adapter.items():
        yield Piece(module, 0, update)

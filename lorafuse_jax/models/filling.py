"""Parameters on their devices, filled a piece at a time from tensors that are still on disk.

Every device's part is an array of its own until all are full: so nothing is read that no device of
this host holds, and hosts need not speak with each other.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.models.placing import Planned, is_quantized
from lorafuse_jax.models.quantized import Quantization, quantize
from lorafuse_jax.types import Params

PIECE_ENTRIES = 1 << 20
"""Of a parameter without layers that are read and written at once."""

Index = tuple[slice, ...]


class StoredTensor(NamedTuple):
    """A tensor that is still on disk.

    Attributes:
        name: as Hugging Face writes it.
        shape: as stored.
        file: for messages.
        read: gives the values at an index (a slice an axis), as floating-point numbers.
    """

    name: str
    shape: tuple[int, ...]
    file: Path
    read: Callable[[Index], np.ndarray]


class Place(NamedTuple):
    """Where a tensor goes.

    Attributes:
        ours: slash-joined path of the parameter.
        layer: its number there; None in a parameter without layers.
        transpose: it is stored the other way round.
        shape: of the tensor as it lies there.
    """

    ours: str
    layer: int | None
    transpose: bool
    shape: tuple[int, ...]


class _Part(NamedTuple):
    """What one or several devices hold of a parameter: ``[start, stop)`` of every axis."""

    index: tuple[tuple[int, int], ...]
    arrays: dict[Any, Any]


class Filling:
    """Parameters, being filled in place."""

    def __init__(
        self, plan: Mapping[str, Planned], dtype: Any, quantization: Quantization | None
    ) -> None:
        """All zero.

        Args:
            plan: by path.
            dtype: of what is not quantised.
            quantization: of the kernels in the layers.
        """
        self._plan, self._dtype, self._quantization = plan, dtype, quantization
        self._parts = {path: list(_empty_parts(planned)) for path, planned in plan.items()}

    def put(self, place: Place, tensor: StoredTensor) -> None:
        """Waits until it is there: tensors that are under way take memory too."""
        for part in self._parts[place.ours]:
            if place.layer is None:
                self._put_in_pieces(part, place, tensor)
            elif part.index[0][0] <= place.layer < part.index[0][1]:
                self._put_layer(part, place, tensor, place.layer - part.index[0][0])
            jax.block_until_ready(list(part.arrays.values()))

    def holds(self, path: str, tensor: StoredTensor) -> bool:
        """Whether a parameter without layers is this tensor, where this host has it."""
        for part in self._parts[path]:
            have = np.asarray(next(iter(part.arrays.values())))
            if not np.array_equal(tensor.read(_slices(part.index)).astype(have.dtype), have):
                return False
        return True

    def params(self) -> Params:
        """The parameters, each one array over all devices."""
        return nested(
            {path: _joined(self._plan[path], parts) for path, parts in self._parts.items()}
        )

    def _put_layer(self, part: _Part, place: Place, tensor: StoredTensor, layer: int) -> None:
        values = _read(tensor, part.index[1:], place.transpose)
        if is_quantized(place.ours, self._quantization):
            self._put_quantized(part, values, layer)
        else:
            _write_all(part, np.asarray(values, self._dtype)[None], (layer,))

    def _put_quantized(self, part: _Part, values: np.ndarray, layer: int) -> None:
        """Some output channels at a time: each has scales of its own."""
        fan_in, fan_out = values.shape
        columns = max(1, PIECE_ENTRIES // fan_in)
        for start in range(0, fan_out, columns):
            some = np.asarray(values[:, start : start + columns], np.float32)
            piece = quantize(jnp.asarray(some), self._quantization)
            piece = jax.tree.map(lambda leaf: np.asarray(leaf)[None], piece)
            _write_all(part, piece, (layer, 0, start))

    def _put_in_pieces(self, part: _Part, place: Place, tensor: StoredTensor) -> None:
        """An embedding may be a tenth of the model: no second copy of all of it is made."""
        axis = len(part.index) - 1 if place.transpose else 0
        first, last = part.index[axis]
        others = [stop - start for start, stop in (*part.index[:axis], *part.index[axis + 1 :])]
        rows = max(1, PIECE_ENTRIES // math.prod(others))
        for start in range(first, last, rows):
            within = list(part.index)
            within[axis] = (start, min(last, start + rows))
            values = np.asarray(_read(tensor, within, place.transpose), self._dtype)
            _write_all(part, values, (0,) * axis + (start - first,))


def nested(by_path: Mapping[str, Any]) -> Params:
    """The parameter tree, from slash-joined paths."""
    tree: Params = {}
    for path, leaf in by_path.items():
        *parents, last = path.split("/")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = leaf
    return tree


def _empty_parts(planned: Planned) -> Iterator[_Part]:
    if planned.sharding is None:
        yield _Part(tuple((0, size) for size in planned.shape), {None: planned.make(planned.shape)})
        return
    parts: dict[tuple, _Part] = {}
    of_devices = planned.sharding.addressable_devices_indices_map(planned.shape)
    for device, index in of_devices.items():
        edges = tuple(one.indices(size)[:2] for one, size in zip(index, planned.shape, strict=True))
        with jax.default_device(device):
            zeros = planned.make(tuple(stop - start for start, stop in edges))
        part = parts.setdefault(edges, _Part(edges, {}))
        part.arrays[device] = jax.device_put(zeros, device)
    yield from parts.values()


def _joined(planned: Planned, parts: list[_Part]) -> Any:
    """One array of those of all devices; a quantised kernel is a tree of them."""
    if planned.sharding is None:
        return parts[0].arrays[None]

    def one(like: jax.ShapeDtypeStruct, *leaves: jax.Array) -> jax.Array:
        return jax.make_array_from_single_device_arrays(like.shape, planned.sharding, list(leaves))

    return jax.tree.map(
        one, planned.shapes(), *(array for part in parts for array in part.arrays.values())
    )


def _read(tensor: StoredTensor, within: Sequence[tuple[int, int]], transpose: bool) -> np.ndarray:
    values = tensor.read(_slices(within[::-1] if transpose else within))
    return values.T if transpose else values


def _slices(edges: Any) -> Index:
    return tuple(slice(start, stop) for start, stop in edges)


def _write_all(part: _Part, piece: Any, start: tuple[int, ...]) -> None:
    """Into the arrays of all devices that hold this part; ``start`` may leave out last axes."""
    for device, whole in part.arrays.items():
        part.arrays[device] = jax.tree.map(
            lambda old, new: _write(old, new, start + (0,) * (old.ndim - len(start))), whole, piece
        )


@partial(jax.jit, donate_argnums=0)
def _write(whole, piece, start):
    """In place, at these coordinates."""
    return jax.lax.dynamic_update_slice(whole, piece, start)

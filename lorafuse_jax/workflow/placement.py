"""Where a run's arrays lie: on one device as they come, or on a mesh by the rules."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lorafuse_jax.data.batches import Batch, empty, stack
from lorafuse_jax.data.loader import Loader
from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.weights import parameter_shapes
from lorafuse_jax.parallel import hosts
from lorafuse_jax.parallel.mesh import DATA, MeshShape, check_divides, default_mesh, make_mesh
from lorafuse_jax.parallel.rules import Rules

Result = TypeVar("Result")

Put = Callable[[Any, Any], Any]
"""``(tree, shardings)`` -> the tree laid out so: ``lay_out``, or ``said_where`` for shapes."""


def lay_out(tree: Any, shardings: Any) -> Any:
    """What every process has whole, each device its part of it."""
    if not hosts.are_many():
        return jax.device_put(tree, shardings)

    def one(leaf: Any, sharding: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf), sharding))
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(one, tree, shardings)


def said_where(tree: Any, shardings: Any) -> Any:
    """A tree of shapes that say where their arrays would lie."""

    def one(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(one, tree, shardings)


@dataclass(frozen=True)
class Placement:
    """A mesh, or one device.

    Attributes:
        mesh: None is one device, without constraints of any kind; an abstract one does for shapes.
        fsdp: whether the base is divided over ``data`` too.
    """

    mesh: Mesh | AbstractMesh | None = None
    fsdp: bool = False

    @property
    def parts(self) -> int:
        """G: how many devices share a batch."""
        return 1 if self.mesh is None else self.mesh.shape[DATA]

    def __str__(self) -> str:
        """For a line of progress; nothing on one device."""
        if self.mesh is None:
            return ""
        shape = MeshShape(**self.mesh.shape, fsdp=self.fsdp)
        return f" · {shape.devices} devices, {shape}"

    def active(self) -> AbstractContextManager:
        """The context in which programs are traced and run; all programs in it run on the mesh."""
        if self.mesh is None:
            return nullcontext()
        assert isinstance(self.mesh, Mesh)  # programs are for devices
        return jax.set_mesh(self.mesh)

    def on_mesh(self, program: Callable[..., Result]) -> Callable[..., Result]:
        """A program that is always traced and run there."""

        @wraps(program)
        def run(*arguments: Any) -> Result:
            with self.active():
                return program(*arguments)

        return run

    def base_shardings(self, config: DecoderConfig, quantized: bool) -> dict[str, Any]:
        """Of the base's parameters by path; none on one device."""
        if self.mesh is None:
            return {}
        return self._rules(config).params(parameter_shapes(config), quantized)

    def trained(self, config: DecoderConfig, tree: Any, put: Put = lay_out) -> Any:
        """A state or stacked adapters, put where they belong."""
        return tree if self.mesh is None else put(tree, self._rules(config).trained(tree))

    def trained_shardings(self, config: DecoderConfig, tree: Any) -> Any:
        """Of such a tree, or of its shapes; None on one device."""
        return None if self.mesh is None else self._rules(config).trained(tree)

    def of_seeds(self, tree: Any, put: Put = lay_out) -> Any:
        """Leaves [S, ...], dealt out by seed."""
        return tree if self.mesh is None else put(tree, Rules(self.mesh, {}).of_seeds(tree))

    def everywhere(self, tree: Any) -> Any:
        """On every device, whole."""
        if self.mesh is None:
            return tree
        return lay_out(
            tree, jax.tree.map(lambda _: NamedSharding(self.mesh, PartitionSpec()), tree)
        )

    def batch(self, tree: Any, put: Put) -> Any:
        """A step's batch [S, A, G, ...]."""
        return tree if self.mesh is None else put(tree, Rules(self.mesh, {}).batch(tree))

    def shared(self, batches: Sequence[Batch]) -> list[Batch]:
        """Batches that all seeds see, G at a time: leaves [G, ...], the last ones filled up."""
        nothing = jax.tree.map(np.zeros_like, batches[0])
        padded = [*batches, *[nothing] * (-len(batches) % self.parts)]
        grouped = [stack(padded[at : at + self.parts]) for at in range(0, len(padded), self.parts)]
        if self.mesh is None:
            return grouped
        return [lay_out(one, Rules(self.mesh, {}).shared_batch(one)) for one in grouped]

    def _rules(self, config: DecoderConfig) -> Rules:
        assert self.mesh is not None
        return Rules(self.mesh, config.units, self.fsdp)


ONE_DEVICE = Placement()


class PlacedBatches:
    """A loader's batches on the mesh: each device is given its part, and only that is packed."""

    def __init__(self, loader: Loader, placement: Placement) -> None:
        self._loader, self._placement = loader, placement

    def batch(self, step: int) -> Any:
        """Leaves [S, A, G, ...]."""
        mesh = self._placement.mesh
        if mesh is None:
            return self._loader.batch(step)
        like = jax.eval_shape(lambda: empty(*self._loader.dimensions(step)))
        shardings = Rules(mesh, {}).batch(like)
        pack = lru_cache(None)(partial(self._part, step))

        def leaf(number: int) -> jax.Array:
            def of_device(index: Any) -> np.ndarray:
                seeds, _, parts, *_ = index
                return pack(seeds.start, seeds.stop, parts.start, parts.stop)[number]

            shape = like[number].shape
            return jax.make_array_from_callback(shape, shardings[number], of_device)

        return type(like)(*map(leaf, range(len(like))))

    def _part(self, step: int, *edges: int | None) -> Batch:
        return self._loader.part_of_batch(step, slice(*edges[:2]), slice(*edges[2:]))


def placement_for(wanted: MeshShape | None, *, seeds: int, examples: int) -> Placement:
    """For training, on all devices there are, as is wanted, or as suits them.

    Args:
        wanted: None chooses.
        seeds: S.
        examples: of a seed, that are computed at once.

    Raises:
        UserError: it takes another number of devices, or does not divide seeds or examples.
    """
    shape = wanted or _shape_for(seeds, examples)
    if shape is None:
        return ONE_DEVICE
    check_divides(shape, seeds, examples)
    return Placement(make_mesh(shape), shape.fsdp)


def placement_for_rows(wanted: MeshShape | None, *, members: int, rows: int) -> Placement:
    """For generation: rows are filled up with idle ones until they can be dealt out equally.

    Args:
        wanted: None chooses.
        members: S.
        rows: of each, at most.

    Raises:
        UserError: it takes another number of devices.
    """
    shape = wanted or _shape_for(members, rows)
    return ONE_DEVICE if shape is None else Placement(make_mesh(shape), shape.fsdp)


def _shape_for(seeds: int, examples: int) -> MeshShape | None:
    """None for the only device."""
    count = jax.device_count()
    return None if count == 1 else default_mesh(seeds, examples, count)

"""The mesh ``(seed, data, model)``: which devices share what."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax.sharding import AxisType, Mesh

from lorafuse_jax.types import UserError

SEED, DATA, MODEL = AXES = ("seed", "data", "model")


@dataclass(frozen=True, kw_only=True)
class MeshShape:
    """Ways that each axis of the mesh is divided; their product is the number of devices.

    Attributes:
        seed: seeds are dealt out to so many groups of devices, which never speak of them again.
        data: so many devices share the examples of one seed's step.
        model: so many share each matrix of the base (tensor parallel, Megatron-LM, 1909.08053).
        fsdp: the base is divided over ``data`` too, and gathered layer by layer as it is needed.
    """

    seed: int = 1
    data: int = 1
    model: int = 1
    fsdp: bool = False

    def __post_init__(self) -> None:
        for axis in AXES:
            if getattr(self, axis) < 1:
                raise UserError(f"the mesh's axis {axis} is {getattr(self, axis)}; at least 1")

    @property
    def devices(self) -> int:
        """How many devices it takes."""
        return self.seed * self.data * self.model

    def __str__(self) -> str:
        """As the command line takes it."""
        parts = [f"{axis}={getattr(self, axis)}" for axis in AXES]
        return ",".join(parts + ["fsdp"] * self.fsdp)


def parse_mesh(text: str) -> MeshShape:
    """``seed=2,data=4,fsdp``; what is not named is 1.

    Raises:
        UserError: it is not written like that.
    """
    values: dict[str, int] = {}
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        name, _, number = word.partition("=")
        if word != "fsdp" and (name not in AXES or not number.isdigit() or name in values):
            raise UserError(
                f"--mesh {text}: {word!r} is not understood; it is written like seed=2,data=2,"
                "model=2 or data=8,fsdp"
            )
        if word != "fsdp":
            values[name] = int(number)
    return MeshShape(**values, fsdp="fsdp" in words)


def default_mesh(seeds: int, examples: int, devices: int) -> MeshShape:
    """Seeds dealt out as far as they can be, since that costs no communication; then examples.

    Args:
        seeds: S.
        examples: of a seed, that are computed at once.
        devices: how many there are; all are used, those that are left over on ``model``.
    """
    seed = math.gcd(seeds, devices)
    data = math.gcd(examples, devices // seed)
    return MeshShape(seed=seed, data=data, model=devices // seed // data)


def make_mesh(shape: MeshShape, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over all devices; those that share a matrix, and speak most, stand nearest.

    Args:
        shape: ways of each axis.
        devices: those to use; all by default.

    Raises:
        UserError: the shape takes another number of devices, or cannot be laid over the machine's
            torus: each axis of the mesh must be one or several whole axes of that.
    """
    count = jax.device_count() if devices is None else len(devices)
    if shape.devices != count:
        raise UserError(
            f"--mesh {shape} takes {shape.devices} devices, and there are {count}: the product of "
            "its axes must be that number"
        )
    sizes = (shape.seed, shape.data, shape.model)
    auto = (AxisType.Auto,) * len(AXES)
    try:
        return jax.make_mesh(sizes, AXES, devices=devices, axis_types=auto)
    except NotImplementedError as error:
        raise UserError(
            f"--mesh {shape} cannot be laid over these devices ({error}); lorafuse plan finds one "
            "that can"
        ) from error


def check_divides(shape: MeshShape, seeds: int, examples: int) -> None:
    """Raise UserError if seeds or a seed's examples cannot be dealt out equally."""
    if seeds % shape.seed:
        raise UserError(
            f"{seeds} seeds cannot be dealt out to {shape.seed} equal parts; give --mesh a seed "
            "axis that divides them, or another number of seeds"
        )
    if examples % shape.data:
        raise UserError(
            f"{examples} examples at once cannot be dealt out to the {shape.data} devices of the "
            "mesh's data axis; choose a multiple of it with --examples-per-step"
        )

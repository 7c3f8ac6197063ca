"""Machines by name, and the public figures of their chips."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lorafuse_jax.training.peak import PUBLISHED
from lorafuse_jax.types import UserError

Platform = Literal["tpu", "gpu", "cpu"]

GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Chip:
    """What one device can do.

    Attributes:
        kind: jax's ``device_kind``.
        memory: bytes; a GB of the makers is taken to be 10^9, the least that it can mean.
        bandwidth: of that memory, bytes a second; None where it is not known.
        links: bytes a second that it can send to others at most, all links together; None where
            devices share a memory.
    """

    kind: str
    memory: float
    bandwidth: float | None
    links: float | None

    @property
    def flops(self) -> float | None:
        """Operations a second in bfloat16; None where that has to be measured."""
        return PUBLISHED.get(self.kind)


@dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes:
        name: as the command line takes it.
        platform: ``tpu`` programs are compiled for the chip, without one; ``cpu`` programs for the
            devices of this host; of a ``gpu`` there is an estimate.
        chip: each device.
        devices: how many; of a TPU, chips.
        topology: as libtpu takes it; of other machines None.
    """

    name: str
    platform: Platform
    chip: Chip
    devices: int
    topology: str | None = None


CHIPS: dict[str, Chip] = {
    "v5e": Chip(kind="TPU v5 lite", memory=16 * GB, bandwidth=819 * GB, links=200 * GB),
    "v5p": Chip(kind="TPU v5", memory=95 * GB, bandwidth=2765 * GB, links=600 * GB),
    "v6e": Chip(kind="TPU v6 lite", memory=32 * GB, bandwidth=1640 * GB, links=448 * GB),
    "h200": Chip(kind="NVIDIA H200", memory=141 * GB, bandwidth=4800 * GB, links=450 * GB),
    "h100": Chip(kind="NVIDIA H100 80GB HBM3", memory=80 * GB, bandwidth=3350 * GB, links=450 * GB),
    "a100-80": Chip(
        kind="NVIDIA A100-SXM4-80GB", memory=80 * GB, bandwidth=2039 * GB, links=300 * GB
    ),
    "a100-40": Chip(
        kind="NVIDIA A100-SXM4-40GB", memory=40 * GB, bandwidth=1555 * GB, links=300 * GB
    ),
}
"""Public figures. TPUs: cloud.google.com/tpu/docs/v5e, v5p and v6e: HBM capacity and bandwidth of a
chip, and the inter-chip bandwidth, 1600, 4800 and 3584 Gbit/s one way. GPUs: NVIDIA's data sheets
of the SXM modules; NVLink's 900 and 600 GB/s are both ways together."""

FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
CUBES = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8"}
TOPOLOGIES: dict[str, Mapping[int, str]] = {"v5e": FLAT, "v6e": FLAT, "v5p": CUBES}
"""Chips -> how they stand, for each kind of TPU."""

CORES = {"v5p": 2}
"""Cores of a chip where the name counts those: a v5p-8 has four chips."""

GPU_COUNTS = (1, 2, 4, 8)
"""What stands on one NVLink switch."""

MOST_CPUS = 64


def machine(name: str, host_memory: float) -> Machine:
    """The machine of that name.

    Args:
        name: as in ``v5e-8``, ``h100-8``, ``a100-80-8`` or ``cpu-8``.
        host_memory: of this host, in bytes, which its CPU devices share.

    Raises:
        UserError: there is none of that name.
    """
    kind, _, number = name.rpartition("-")
    count = int(number) if number.isdigit() else 0
    if kind in TOPOLOGIES:
        chips, rest = divmod(count, CORES.get(kind, 1))
        if rest == 0 and chips in TOPOLOGIES[kind]:
            topology = f"{kind}:{TOPOLOGIES[kind][chips]}"
            return Machine(name, "tpu", CHIPS[kind], chips, topology)
        known = [f"{kind}-{chips * CORES.get(kind, 1)}" for chips in TOPOLOGIES[kind]]
        raise UserError(f"no machine {name!r}; of {kind} there are {', '.join(known)}")
    if kind in CHIPS and count in GPU_COUNTS:
        return Machine(name, "gpu", CHIPS[kind], count)
    if kind == "cpu" and 1 <= count <= MOST_CPUS:
        chip = Chip(kind="cpu", memory=host_memory / count, bandwidth=None, links=None)
        return Machine(name, "cpu", chip, count)
    raise UserError(
        f"no machine {name!r}: it is written like v5e-8, v6e-8, v5p-64, h100-8, a100-80-8 or "
        f"cpu-8; kinds are {', '.join([*CHIPS, 'cpu'])}; of GPUs there are {GPU_COUNTS}"
    )

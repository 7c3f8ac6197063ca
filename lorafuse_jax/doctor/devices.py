"""What jax computes on, and whether it does."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lorafuse_jax import control_groups, memory
from lorafuse_jax.doctor.finding import Finding

LITTLE_MEMORY = 4e9
"""Bytes: three seeds of SmolLM2-135M with four examples of 256 tokens each take this much
(``experiments/results/plan_memory.md``)."""


class Devices(NamedTuple):
    """What jax sees.

    Attributes:
        platform: ``cpu``, ``gpu`` or ``tpu``; empty where jax does not start.
        kinds: of each device of this process.
        memory: bytes that the first one may use; of a CPU, what the host has left. ``None``: not
            known.
        error: what jax says instead, or what computing on the first one says.
    """

    platform: str = ""
    kinds: tuple[str, ...] = ()
    memory: int | None = None
    error: str = ""


def devices() -> Devices:
    """Start jax, and let the first device add eight numbers."""
    # another program's memory is not taken for a few numbers
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        local = jax.local_devices()
    except Exception as error:  # of whatever backend
        return Devices(error=_in_short(error))
    platform, kinds = local[0].platform, tuple(device.device_kind for device in local)
    try:
        total = float(jax.jit(jnp.sum)(jnp.arange(8.0)))
        error = "" if total == 28 else f"0 + 1 + ... + 7 is {total}"
    except Exception as failure:
        error = _in_short(failure)
    return Devices(platform, kinds, memory.available_bytes(), error)


def cores() -> float:
    """Processor cores that this process may use at a time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return float(min(count or 1, control_groups.cores() or float("inf")))


def findings(seen: Devices, load: float | None) -> Iterator[Finding]:
    """What is wrong with the devices themselves.

    Args:
        seen: by jax.
        load: processes of the host that want to run, the mean of a minute; ``None``: not known.
    """
    if not seen.platform:
        asked = os.environ.get("JAX_PLATFORMS", "")
        yield Finding(
            "broken",
            f"jax finds no device: {seen.error}",
            f"JAX_PLATFORMS={asked} names what is not here" if asked else "nothing can be computed",
            "unset JAX_PLATFORMS" if asked else "python -c 'import jax; jax.devices()' says more",
        )
        return
    if seen.error:
        yield Finding(
            "broken",
            f"{seen.kinds[0]} does not compute: {seen.error}",
            "nothing can be computed",
            "look whether its driver fits jax, and whether another program has all of its memory",
        )
    if seen.memory is not None and seen.memory < LITTLE_MEMORY:
        yield Finding(
            "limited",
            f"{seen.memory / 1e9:.1f} GB of memory are free",
            "three seeds of SmolLM2-135M with 4 examples of 256 tokens each take 4 GB; larger "
            "models do not load",
            "close what takes it, or train with --remat layers --micro-batches 4; lorafuse plan "
            "says what a run takes",
        )
    host = os.cpu_count() or 1
    if seen.platform == "cpu" and load is not None and load > host:
        yield Finding(
            "slow",
            f"{load:.1f} processes want to run on the host's {host} cores",
            "a run gets what others leave, and the matrix peak above is measured so",
            "wait for them, or look with top which they are",
        )


def _in_short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

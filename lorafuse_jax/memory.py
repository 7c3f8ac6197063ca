"""What memory there is, so that work that does not fit is refused before it starts."""

import os

import jax

from lorafuse_jax import control_groups

RESERVE = 0.05
"""Share of the memory that is left to everything else."""


def usable_bytes() -> int | None:
    """What may be taken of the memory that the default device has left; None if it is not known."""
    have = available_bytes()
    return None if have is None else int((1 - RESERVE) * have)


def available_bytes() -> int | None:
    """Memory that the default device has left; None where that is not known."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return host_bytes()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def host_bytes() -> int | None:
    """Memory that the host has left, or its container where that has less; None: not known."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _page_cache()
    except (ValueError, OSError):
        return None
    left = control_groups.memory_left()
    return free if left is None else min(free, left)


def resident_bytes() -> int:
    """What this process takes now; 0 where that is not known (no Linux)."""
    try:
        with open("/proc/self/statm") as sizes:
            return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _page_cache() -> int:
    """Files in memory that the system gives up when it is asked to (Linux)."""
    try:
        with open("/proc/meminfo") as lines:
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    except OSError:
        return 0
    return max(0, sizes.get("MemAvailable", 0) - sizes.get("MemFree", 0))

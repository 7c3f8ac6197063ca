"""``cost.jsonl``: what each piece of work on a run took, on what machine.

A line a command that did something, also one that was stopped: ``{"verb": "train", "about":
"3 seeds", "seconds", "peak_bytes", "device_peak_bytes", "machine": {..}, "counts": {"steps": 9}}``.
Seconds are of the wall, with compilation. ``peak_bytes`` is the most that the process held in main
memory meanwhile; ``device_peak_bytes`` that it has held on the accelerator, null on CPUs.
"""

import os
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import jax

from lorafuse_jax.evaluation.records import append
from lorafuse_jax.run_folder import RunFolder

Verb = Literal["train", "fuse", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A line of the file."""

    verb: Verb
    about: str
    seconds: float
    peak_bytes: int
    device_peak_bytes: int | None
    machine: dict[str, str]
    counts: dict[str, int]


@contextmanager
def spending(run: RunFolder, verb: Verb, about: str) -> Iterator[Counter[str]]:
    """Measure a ``with`` block, and add a line if it counted anything, however it ends.

    Args:
        run: whose file it is.
        verb: which command.
        about: what it worked on.
    """
    counts: Counter[str] = Counter()
    _forget_peak()
    began = time.perf_counter()
    try:
        yield counts
    finally:
        if counts.total():
            line = Cost(
                verb=verb,
                about=about,
                seconds=round(time.perf_counter() - began, 3),
                peak_bytes=_peak_bytes(),
                device_peak_bytes=_device_peak_bytes(),
                machine=machine(),
                counts=dict(counts),
            )
            append(run.cost_path, [line])


def machine() -> dict[str, str]:
    """What speed depends on."""
    devices = jax.local_devices()
    kind = devices[0].device_kind
    return {
        "device": kind if len(devices) == 1 else f"{len(devices)} x {kind}",
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def _forget_peak() -> None:
    """Start the kernel's count of the peak anew; where it cannot, it is the whole process's."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def _peak_bytes() -> int:
    try:
        with open("/proc/self/status") as file:
            peak = next(line for line in file if line.startswith("VmHWM:"))
        return 1024 * int(peak.split()[1])
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


def _device_peak_bytes() -> int | None:
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [one["peak_bytes_in_use"] for one in stats if "peak_bytes_in_use" in one]
    return max(peaks, default=None)

"""Linux control groups: what a container, or a part of a system, is held to."""

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def folders(controller: str) -> Iterator[Path]:
    """This process's group and those that it lies in, innermost first; none without Linux.

    A limit of any of them holds. Both versions of control groups are read; the names of their files
    differ.

    Args:
        controller: ``memory`` or ``cpu``.
    """
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = GROUPS / controller if controllers else GROUPS
        folder = top / path.lstrip("/")
        yield folder
        while folder != top:
            folder = folder.parent
            yield folder


def number(file: Path) -> int | None:
    """What a file of one number says; ``None`` where it is not there or says ``max``."""
    try:
        return int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def memory_left() -> int | None:
    """Bytes that may still be taken, what files hold in memory included; ``None``: no limit."""
    left = []
    for folder in folders("memory"):
        for limit, used, files in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, taken = number(folder / limit), number(folder / used)
            if most is not None and taken is not None:
                left.append(max(0, most - taken + _stat(folder, files)))
    return min(left, default=None)


def cores() -> float | None:
    """Processor seconds a second; ``None``: no limit."""
    found = []
    for folder in folders("cpu"):
        quota, period = number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
        try:
            text = (folder / "cpu.max").read_text().split()
            quota, period = int(text[0]), int(text[1])
        except (OSError, ValueError, IndexError):
            pass  # version 1, or no limit
        if quota is not None and period and quota > 0:
            found.append(quota / period)
    return min(found, default=None)


def _stat(folder: Path, name: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)

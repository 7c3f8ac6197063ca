"""What binds the two processes: privileges, limits, namespaces, Landlock, the filter of calls."""

import contextlib
import os
import resource
import signal
from pathlib import Path
from typing import Any, NamedTuple

from . import kernel, landlock, namespaces, seccomp

THREADS = 64
OPEN_FILES = 64
FIRST_FREE_USER = 2_000_000_000
NOBODY = 65534
OF_ROOT = ("root namespaces", "landlock")
"""The kinds of isolation under which root becomes another user."""


class Cell(NamedTuple):
    """Where the processes will be.

    Attributes:
        user: whose they are.
        tasks: processes and threads that the user may have; None where the kernel does not count.
        readable: what they may read.
        folder: where they may write, and begin.
        watched: the same folder, where nothing but looking bounds what lies in it.
    """

    user: int
    tasks: int | None
    readable: list[str]
    folder: str
    watched: str | None


def prepare(job: dict[str, Any]) -> Cell:
    """Ready for processes that are then started; this one goes into the namespaces itself.

    Raises:
        OSError: the system does not permit it.
    """
    kind, folder = job["kind"], job["folder"]
    readable = [path for path in job["readable"] if os.path.exists(path)]
    own_root = kind.endswith("namespaces")
    user = _user_for(readable, own_root=own_root) if kind in OF_ROOT else os.geteuid()
    # The kernel counts, and limits, the tasks of every user but root.
    tasks = None if user == 0 or not os.path.isdir("/proc/self") else _tasks_of(user) + THREADS
    if kind == "landlock" and landlock.version() < landlock.NEEDED:
        there = landlock.version()
        raise OSError(f"version {landlock.NEEDED} is needed, and the kernel has {there or 'none'}")
    if own_root:
        namespaces.enter(folder, readable, job["file_bytes"], user=kind == "user namespaces")
        return Cell(user, tasks, readable, namespaces.SCRATCH, None)
    if user != os.geteuid():
        os.chown(folder, user, -1)
    return Cell(user, tasks, readable, folder, folder)


def enter(job: dict[str, Any], cell: Cell, kept: set[int]) -> None:
    """Bind this process, for good.

    Args:
        job: with the fields of ``Limits``.
        cell: where it is to be.
        kept: the files that stay open.

    Raises:
        OSError: the system does not permit it.
    """
    os.setsid()
    os.chdir(cell.folder)
    os.environ.pop("LD_LIBRARY_PATH", None)
    os.environ.update(HOME=cell.folder, TMPDIR=cell.folder)
    _keep_only(kept)
    if cell.user != os.geteuid():
        os.setgroups([])
        os.setresgid(cell.user, cell.user, cell.user)
        os.setresuid(cell.user, cell.user, cell.user)
    _limit("RLIMIT_CPU", job["cpu_seconds"], job["cpu_seconds"] + 1)
    _limit("RLIMIT_AS", job["memory_bytes"])
    _limit("RLIMIT_FSIZE", job["file_bytes"])
    _limit("RLIMIT_NOFILE", OPEN_FILES)
    _limit("RLIMIT_CORE", 0)
    if cell.tasks is not None:
        _limit("RLIMIT_NPROC", cell.tasks)
    if job["kind"] != "none":
        kernel.drop_capabilities()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if landlock.version() >= landlock.NEEDED:
            landlock.restrict(cell.readable, cell.folder)
        seccomp.install(threads=cell.tasks is not None)


def bytes_in(folder: str) -> int:
    """What the files in it take."""
    found = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it was removed meanwhile
                found += os.lstat(os.path.join(path, name)).st_blocks * 512
    return found


def _user_for(readable: list[str], *, own_root: bool) -> int:
    """Of root's programs: a user of their own, if that user can read what they need."""
    if os.geteuid() != 0:
        return os.geteuid()
    places = [Path(path) for path in readable]
    # In a root of its own, the folders above them are the sandbox's.
    above = set() if own_root else {way for place in places for way in place.resolve().parents}
    open_to_all = all(place.stat().st_mode & 0o004 for place in places)
    passable = all(way.stat().st_mode & 0o001 for way in above)
    users = (FIRST_FREE_USER + os.getpid(), NOBODY) if open_to_all and passable else ()
    return next(filter(_is_known, users), 0)


def _is_known(user: int) -> bool:
    """Whether the container has this user at all."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    ranges = [[int(word) for word in line.split()] for line in lines]
    return any(first <= user < first + count for first, _, count in ranges)


def _tasks_of(user: int) -> int:
    """How many processes and threads a user has."""
    found = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if int(fields["Uid"].split()[0]) == user:
                found += int(fields["Threads"])
    return found


def _keep_only(descriptors: set[int]) -> None:
    """Close all files but these; standard input and output read and write nothing."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    kept = sorted(descriptors | {0, 1, 2})
    for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)


def _limit(name: str, soft: int, hard: int | None = None) -> None:
    """Set a limit, no higher than it was; systems lack some, and macOS refuses others."""
    kind = getattr(resource, name, None)
    if kind is None:
        return
    most = resource.getrlimit(kind)[1]
    wanted = soft if hard is None else hard
    wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (min(soft, wanted), wanted))

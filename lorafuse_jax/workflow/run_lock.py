"""One process at a time on a run folder, by a lock that dies with the process that holds it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorafuse_jax.run_folder import LOCK_NAME
from lorafuse_jax.types import UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, which must exist, for the length of a ``with`` block.

    The operating system's lock (flock) counts, not the file: one that a killed process left behind
    locks nothing. Threads of one process exclude each other too.

    Raises:
        UserError: another process holds it; says which.
    """
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(descriptor, fcntl.LOCK_EX, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def check_unlocked(folder: Path) -> None:
    """Raise UserError if a process holds the folder now; before long work, and changes nothing."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        _take(descriptor, fcntl.LOCK_SH, folder)
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 100).decode(errors="replace").strip()
        raise UserError(
            f"another process is at work on {folder}" + (f" ({holder})" if holder else "") + "; "
            "wait for its end or stop it, or name another folder"
        ) from None

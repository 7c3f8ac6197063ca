"""Namespaces: a file system, processes and a network of their own, for root and for users.

The new root holds the interpreter and system libraries read-only, four devices, and an empty folder
of limited size in memory; ``/home``, ``/root``, ``/proc``, ``/etc`` and all else is not there.
"""

import os
from pathlib import Path

from .kernel import call, checked, libc, mount

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    *(0x00020000, 0x04000000, 0x08000000),
    *(0x10000000, 0x20000000, 0x40000000),
)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
KEPT_FLAGS = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""Of statvfs -> of mount: what a user namespace may not take off a mount that it inherits."""

DETACH = 2
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
SCRATCH = "/program"
MOST_FILES = 4096


def enter(folder: str, readable: list[str], scratch_bytes: int, *, user: bool) -> None:
    """Move this process, and what it starts from now on, into namespaces of their own.

    The next process that is started is the first of its process namespace: when it ends, the
    kernel kills all others.

    Args:
        folder: an empty one, to mount the new root on.
        readable: what is to be there.
        scratch_bytes: what the empty folder holds at most.
        user: in a user namespace too, which needs no privilege.

    Raises:
        OSError: it is not permitted here.
    """
    user_id, group_id = os.geteuid(), os.getegid()
    kinds = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
    checked("unshare", libc.unshare(kinds | (NEWUSER if user else 0)))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user_id} {user_id} 1")
        Path("/proc/self/gid_map").write_text(f"{group_id} {group_id} 1")
    mount("none", "/", None, REC | PRIVATE)
    mount("tmpfs", folder, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for path in readable:
        _bind(path, folder, RDONLY)
    for path in DEVICES:
        _bind(path, folder, 0)
    os.makedirs(folder + SCRATCH, exist_ok=True)
    size = f"size={scratch_bytes},nr_inodes={MOST_FILES},mode=1777"
    mount("tmpfs", folder + SCRATCH, "tmpfs", NOSUID | NODEV, size)
    mount("none", folder, None, REMOUNT | BIND | RDONLY | NOSUID | NODEV)
    os.chdir(folder)
    call("pivot_root", b".", b".")
    checked("umount", libc.umount2(b".", DETACH))
    os.chdir(SCRATCH)


def _bind(path: str, folder: str, flags: int) -> None:
    """What is at the path, at the same path under the folder."""
    target = folder + path
    os.makedirs(target if os.path.isdir(path) else os.path.dirname(target), exist_ok=True)
    if not os.path.isdir(path):
        os.close(os.open(target, os.O_CREAT))
    mount(os.path.realpath(path), target, None, BIND | REC)
    there = os.statvfs(target).f_flag
    kept = sum(flag for given, flag in KEPT_FLAGS.items() if there & given)
    mount("none", target, None, REMOUNT | BIND | NOSUID | flags | kept)

"""Linux's system calls for which Python has no function, through ctypes."""

import ctypes
import os
import platform
from typing import Any

from .syscalls import OWN, numbers

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
CAPABILITY_VERSION_3 = 0x20080522
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: Any) -> int:
    """The system call's result.

    Raises:
        OSError: the kernel refuses.
    """
    number = numbers(OWN, platform.machine())[name]
    values = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return checked(name, libc.syscall(ctypes.c_long(number), *values))


def prctl(option: int, value: int, pointer: Any = 0) -> None:
    """A setting of this process."""
    rest = (pointer, ctypes.c_ulong(0), ctypes.c_ulong(0))
    checked(f"prctl {option}", libc.prctl(option, ctypes.c_ulong(value), *rest))


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount."""
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    done = libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None)
    checked(f"mount {target}", done)


def checked(what: str, result: int) -> int:
    """The result, unless it says that there is an error."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def drop_capabilities() -> None:
    """Give up every privilege of root's, for good."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
    prctl(PR_SET_NO_NEW_PRIVS, 1)

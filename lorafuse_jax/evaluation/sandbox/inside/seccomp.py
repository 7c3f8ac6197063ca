"""A filter of system calls (seccomp with BPF): what a program of a benchmark has no need of.

No process can be started and no file executed, so that there is nothing to leave behind and nothing
to escape to; no socket can be made; no other process can be signalled, traced or read; nothing can
be mounted; modes, owners and times of files stay; System V and POSIX queues, which outlive their
makers, are not there. Calls newer than ``syscalls.NEWEST`` are to it as on an older kernel.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

from .kernel import PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, PR_SET_SECCOMP, prctl
from .syscalls import ARGUED, DENIED, MACHINES, NEWEST, numbers

FILTER_MODE = 2
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_ABOVE, JUMP_BITS, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16
CLONE_THREAD, AF_UNIX = 0x10000, 1

FCNTL_OWNERS = (8, 10, 15)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: they have the kernel signal any process."""
IOCTLS = (0x8901, 0x8902, 0x5412, 0x541C)
"""FIOSETOWN, SIOCSPGRP likewise; TIOCSTI and TIOCLINUX type into a terminal."""


class Instruction(NamedTuple):
    """Of the kernel's BPF machine: an operation, how far to jump if true and false, a number."""

    code: int
    yes: int
    no: int
    value: int


def install(*, threads: bool) -> None:
    """Filter this process, for good.

    Args:
        threads: whether threads may be started.

    Raises:
        OSError: the kernel has no such filters.
    """
    instructions = build(platform.machine(), os.getpid(), threads=threads)
    image = b"".join(struct.pack("=HBBI", *one) for one in instructions)
    memory = ctypes.create_string_buffer(image, len(image))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(memory))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, FILTER_MODE, ctypes.c_char_p(program))


def build(machine: str, own: int, *, threads: bool) -> list[Instruction]:
    """The filter for a machine and a process number.

    Raises:
        OSError: the machine's system calls are not known here.
    """
    denied, argued = numbers(DENIED, machine), numbers(ARGUED, machine)
    blocks = [
        [_load(ARCH_AT), Instruction(JUMP_EQUAL, 1, 0, MACHINES[machine]), _return(KILL)],
        # x86_64's second table of calls (x32) begins at 1 << 30 and is cut off here too.
        [_load(NUMBER_AT), Instruction(JUMP_ABOVE, 0, 1, NEWEST), _error(errno.ENOSYS)],
        *([Instruction(JUMP_EQUAL, 0, 1, n), _error(errno.EPERM)] for n in denied.values()),
        # The C library goes on with clone, whose flags can be seen, where there is no clone3.
        [Instruction(JUMP_EQUAL, 0, 1, argued["clone3"]), _error(errno.ENOSYS)],
        _unless(argued["clone"], 0, JUMP_BITS, (CLONE_THREAD,) if threads else ()),
        _unless(argued["socketpair"], 0, JUMP_EQUAL, (AF_UNIX,)),
        *(_unless(argued[name], 0, JUMP_EQUAL, (own,)) for name in ("kill", "tgkill")),
        *(
            _unless(argued[name], 0, JUMP_EQUAL, (0, own))
            for name in ("prlimit64", *(name for name in argued if name.startswith("sched")))
        ),
        _if(argued["prctl"], 0, (PR_SET_PDEATHSIG,)),
        _if(argued["fcntl"], 1, FCNTL_OWNERS),
        _if(argued["ioctl"], 1, IOCTLS),
        [_return(ALLOW)],
    ]
    return [instruction for block in blocks for instruction in block]


def _unless(number: int, argument: int, test: int, values: tuple[int, ...]) -> list[Instruction]:
    """Refuse a call, unless one test of its argument is true."""
    left = range(len(values), 0, -1)
    tests = [Instruction(test, more, 0, v) for more, v in zip(left, values, strict=True)]
    return _block(number, argument, [*tests, _error(errno.EPERM)])


def _if(number: int, argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Refuse a call if its argument is one of these."""
    last = len(values) - 1
    tests = [
        Instruction(JUMP_EQUAL, last - at, at == last, value) for at, value in enumerate(values)
    ]
    return _block(number, argument, [*tests, _error(errno.EPERM)])


def _block(number: int, argument: int, body: list[Instruction]) -> list[Instruction]:
    # Of an argument the lower half: these are ints to the kernel.
    inner = [_load(ARGUMENTS_AT + 8 * argument), *body, _load(NUMBER_AT)]
    return [Instruction(JUMP_EQUAL, 0, len(inner), number), *inner]


def _load(offset: int) -> Instruction:
    return Instruction(LOAD, 0, 0, offset)


def _return(value: int) -> Instruction:
    return Instruction(RETURN, 0, 0, value)


def _error(number: int) -> Instruction:
    return _return(ERRNO | number)

"""The filter of system calls, run by an interpreter of its instructions, for both machines."""

import errno

import pytest

from lorafuse_jax.evaluation.sandbox.inside import seccomp
from lorafuse_jax.evaluation.sandbox.inside.syscalls import MACHINES, NEWEST

OWN = 4711
READ = {"x86_64": 0, "aarch64": 63}
CALLS = {  # x86_64, aarch64
    "execve": (59, 221),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "fchmodat": (268, 53),
    "keyctl": (250, 219),
    "clone": (56, 220),
    "kill": (62, 129),
    "fcntl": (72, 25),
    "prctl": (157, 167),
    "socketpair": (53, 199),
    "sched_setaffinity": (203, 122),
    "ioctl": (16, 29),
}


def outcome(machine: str, call: str | int, *arguments: int, threads: bool = True, arch: int = 0):
    """What the kernel would do: True to allow, an error's number, or "kill"."""
    number = CALLS[call][machine != "x86_64"] if isinstance(call, str) else call
    program = seccomp.build(machine, OWN, threads=threads)
    data = {0: number, 4: arch or MACHINES[machine]}
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data |= {16 + 8 * at: value & 0xFFFFFFFF for at, value in enumerate(padded)}
    at, held = 0, 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == 0x20:
            held = data[value]
        elif code == 0x06:
            if value & 0xFFFF0000 == 0x00050000:
                return value & 0xFFFF
            return {0x7FFF0000: True, 0x80000000: "kill"}[value]
        else:
            true = {0x15: held == value, 0x25: held > value, 0x45: bool(held & value)}[code]
            at += yes if true else no


@pytest.mark.parametrize("machine", MACHINES)
def test_filter_refuses_what_it_says(machine):
    refused = errno.EPERM
    assert outcome(machine, READ[machine]) is True
    assert outcome(machine, READ[machine], arch=0x40000003) == "kill"
    for call in ("execve", "socket", "ptrace", "fchmodat", "keyctl"):
        assert outcome(machine, call) == refused, call
    for new in (NEWEST + 1, 0x40000000, 0xFFFFFFFF):
        assert outcome(machine, new) == errno.ENOSYS
    thread, process = 0x3D0F00, 17
    assert outcome(machine, "clone", thread) is True
    assert outcome(machine, "clone", process) == refused
    assert outcome(machine, "clone", thread, threads=False) == refused
    assert outcome(machine, 435) == errno.ENOSYS
    assert outcome(machine, "kill", OWN, 15) is True
    for other in (0, 1, -1, OWN + 1, -OWN):
        assert outcome(machine, "kill", other, 0) == refused
    assert outcome(machine, "sched_setaffinity", 0) is True
    assert outcome(machine, "sched_setaffinity", OWN) is True
    assert outcome(machine, "sched_setaffinity", 1) == refused
    assert outcome(machine, "socketpair", 1) is True
    assert outcome(machine, "socketpair", 2) == refused
    assert outcome(machine, "prctl", 15) is True
    assert outcome(machine, "prctl", 1) == refused
    assert outcome(machine, "fcntl", 9, 3) is True
    assert [outcome(machine, "fcntl", 9, what) for what in (8, 10, 15)] == [refused] * 3
    assert outcome(machine, "ioctl", 0, 0x5401) is True
    assert outcome(machine, "ioctl", 0, 0x5412) == refused


def test_machine_without_known_calls_is_refused():
    with pytest.raises(OSError, match="riscv64"):
        seccomp.build("riscv64", OWN, threads=True)

"""Landlock (Linux 5.13): files outside of the given folders cannot be opened, changed or listed.

It is for every user, and takes a privilege only away. What it does not cover is a file's name and
size (``stat``), and mode, owner, times and attributes, to change which ``seccomp`` refuses.
"""

import ctypes
import os
import struct

from .kernel import call
from .namespaces import DEVICES

NEEDED = 3
"""The first version that covers truncation: Linux 6.2."""

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
MAKE_DEVICES = 1 << 6 | 1 << 11
ALL_FILES = {3: (1 << 15) - 1, 5: (1 << 16) - 1}
TCP = 3
SIGNALS_AND_SOCKETS = 3
VERSION_FLAG = 1
PATH_BENEATH = 1


def version() -> int:
    """The kernel's version of it; 0 where there is none."""
    try:
        return call("landlock_create_ruleset", None, 0, VERSION_FLAG)
    except OSError:
        return 0


def restrict(readable: list[str], writable: str) -> None:
    """Bind this process, for good.

    Args:
        readable: folders of which everything may be read.
        writable: the folder in which everything may be done.

    Raises:
        OSError: the kernel has no version of it that suffices.
    """
    there = version()
    handled = ALL_FILES[5 if there >= 5 else 3]
    attributes = [handled, *[TCP] * (there >= 4), *[SIGNALS_AND_SOCKETS] * (there >= 6)]
    image = struct.pack(f"={len(attributes)}Q", *attributes)
    rules = call("landlock_create_ruleset", ctypes.c_char_p(image), len(image), 0)
    for path in readable:
        _allow(rules, path, EXECUTE | READ_FILE | READ_DIR)
    _allow(rules, writable, handled & ~MAKE_DEVICES & ~IOCTL_DEV)
    for path in DEVICES:
        _allow(rules, path, READ_FILE | WRITE_FILE)
    call("landlock_restrict_self", rules, 0)
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rights = rights if os.path.isdir(path) else rights & ~READ_DIR
    rule = ctypes.c_char_p(struct.pack("=Qi", rights, place))
    call("landlock_add_rule", rules, PATH_BENEATH, rule, 0)
    os.close(place)

"""Folders that the tool writes to: whether it can, and how much room there is."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lorafuse_jax.doctor.finding import Finding

FULL = 1e9
"""Bytes: SmolLM2-135M takes half of it in the cache, and as much while it is unpacked."""

NEARLY_FULL = 15e9
"""Bytes: the weights of a model of seven billion parameters in 16 bits."""


class Place(NamedTuple):
    """A folder, or where it will be made.

    Attributes:
        name: what lies there.
        folder: its path.
        writable: whether a file can be made in it.
        free: bytes left on its disk.
        disk: tells disks apart.
    """

    name: str
    folder: Path
    writable: bool
    free: int
    disk: int


def place(name: str, folder: Path) -> Place:
    """Look at a folder; nothing is left there, and no folder is made."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            writable = True
    except OSError:
        writable = False
    return Place(name, folder, writable, shutil.disk_usage(there).free, there.stat().st_dev)


def size(folder: Path) -> int:
    """Bytes of all files below; 0 where there is no folder."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += (Path(parent) / file).lstat().st_size
            except OSError:
                continue  # gone meanwhile
    return total


def findings(places: list[Place], remedies: dict[str, str]) -> Iterator[Finding]:
    """Folders that cannot be written, and disks with little room, each disk once.

    Args:
        places: looked at.
        remedies: what to do about each, by name.
    """
    for one in places:
        if not one.writable:
            yield Finding(
                "broken",
                f"{one.folder} cannot be written to ({one.name})",
                "what is fetched, trained or answered has no place",
                remedies[one.name],
            )
    for disk in dict.fromkeys(one.disk for one in places):
        here = [one for one in places if one.disk == disk]
        if here[0].free < NEARLY_FULL:
            full = here[0].free < FULL
            yield Finding(
                "broken" if full else "limited",
                f"{here[0].free / 1e9:.1f} GB are left on the disk of {_listed(here)}",
                "not even SmolLM2-135M has room (1 GB)"
                if full
                else "the weights of a model of 7 billion parameters take 14 GB",
                "make room; " + remedies[here[0].name],
            )


def _listed(places: list[Place]) -> str:
    return ", ".join(f"{one.folder} ({one.name})" for one in places)

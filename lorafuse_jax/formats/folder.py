"""Folders that are there whole or not at all, and the JSON in them."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorafuse_jax.types import UserError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``folder`` when the block ends without an error.

    It is made beside ``folder``, on the same disk, so that the last step is one rename.

    Raises:
        UserError: ``folder`` is there already and is not an empty folder.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_free(folder)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        whole = Path(beside) / folder.name
        whole.mkdir()
        yield whole
        try:
            whole.replace(folder)
        except OSError:  # somebody else wrote it meanwhile
            check_free(folder)
            raise


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room, or no quota, left: from Python, safetensors or tensorstore.

    The last two raise errors of other kinds, which have the system's words in them.
    """
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in full
    return any(os.strerror(number).lower() in str(error).lower() for number in full)


def check_room(folder: Path, size: int) -> None:
    """Raise UserError unless the disk that ``folder`` will be on has ``size`` bytes left."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if (free := shutil.disk_usage(place).free) < size:
        raise UserError(
            f"{folder} would take {size / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB left; "
            "make room, or name another place with --out"
        )


@contextmanager
def disk_full_is_said(folder: Path) -> Iterator[None]:
    """A disk that is full, while a ``new_folder`` is written, as one clear error.

    Raises:
        UserError: there was no room.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise UserError(
            f"{folder}: no space left on the disk for it; nothing of it was kept. Make room, or "
            "name another place with --out, and repeat the command"
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Indented, in the order given; what JSON has no form for (a path) is written as text."""
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: no such file, or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def check_free(folder: Path) -> None:
    """Raise UserError unless the folder can be made, or is there and empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; remove it or choose another place")

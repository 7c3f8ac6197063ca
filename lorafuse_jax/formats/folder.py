"""A folder of files that appears whole or not at all, and safetensors that are read with care."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lorafuse_jax.types import UserError

PROVENANCE_FILE = "provenance.json"


@contextmanager
def whole_folder(folder: Path, provenance: dict[str, Any]) -> Iterator[Path]:
    """A temporary sibling to fill; renamed to ``folder``, provenance included, if all went well.

    Raises:
        UserError: ``folder`` is there already and not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name another folder, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield temporary
        text = json.dumps(provenance, indent=2, default=str) + "\n"
        (temporary / PROVENANCE_FILE).write_text(text)
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file.

    Raises:
        UserError: it is missing, damaged or cut short.
    """
    if not file.exists():
        raise UserError(f"{file} does not exist")
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged or cut short ({error}); write it again") from None

"""Tensors where they lie in safetensors files: found by the headers, read in pieces when needed.

Files are read and not memory-mapped, so that what was read once does not stay in the process.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

from lorafuse_jax.formats.tensors import files_of
from lorafuse_jax.types import UserError

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
"""Stored types that hold a weight itself; integers and 8-bit floats need their scales."""


@dataclass(frozen=True)
class Stored:
    """Where a tensor is.

    Attributes:
        file: a safetensors file.
        dtype: as safetensors calls it.
        shape: of the tensor.
        start: its first byte in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


def find_tensors(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, or of the shards of its index, by name.

    Raises:
        UserError: a file or a tensor is missing, or a file is damaged or cut short.
    """
    files = files_of(path)
    headers = {file: header(file) for file in set(files.values())}
    return {name: headers[file][name] for name, file in files.items()}


def header(file: Path) -> dict[str, Stored]:
    """A file's tensors; by the format: the header's length in 8 bytes, it as JSON, all tensors."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        listed = json.loads(stream.read(length))
    listed.pop("__metadata__", None)
    return {
        name: Stored(
            file, about["dtype"], tuple(about["shape"]), 8 + length + about["data_offsets"][0]
        )
        for name, about in listed.items()
    }


def read_tensor(stored: Stored) -> np.ndarray:
    """All of a tensor.

    Raises:
        UserError: the file became shorter after its header was read.
    """
    with stored.file.open("rb") as file:
        return read_rows(file, stored, 0, stored.shape[0])


def read_rows(file: BinaryIO, stored: Stored, first: int, count: int) -> np.ndarray:
    """Some rows of a tensor.

    Raises:
        UserError: they are no floats, or the file became shorter after its header was read.
    """
    if stored.dtype not in DTYPES:
        raise UserError(f"{stored.file}: a tensor is stored as {stored.dtype}: no plain numbers")
    columns, dtype = math.prod(stored.shape[1:]), np.dtype(DTYPES[stored.dtype])
    file.seek(stored.start + first * columns * dtype.itemsize)
    content = file.read(count * columns * dtype.itemsize)
    if len(content) != count * columns * dtype.itemsize:
        raise UserError(f"{stored.file} was cut short while it was read; copy it there again")
    return np.frombuffer(content, dtype).reshape(count, *stored.shape[1:])

"""Safetensors files whose header is written first and whose tensors come one by one.

They are the bytes that the safetensors library would write, were all tensors in memory.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from jaxtyping import Array

from lorafuse_jax.formats.stored import DTYPES, Stored, read_tensor

_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


class Form(NamedTuple):
    """What a header says of a tensor: its shape, and its type as NumPy knows it."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFile:
    """A file that is being written; its whole size is taken from the disk when it is made.

    Attributes:
        path: of the file.
        forms: the tensors that there is room for.
        written: those that are there, in the shapes that they came in.
    """

    def __init__(self, path: Path, forms: Mapping[str, Form]) -> None:
        """Write the header.

        Args:
            path: of the file.
            forms: name -> what will come; the largest that may come where that is not known.

        Raises:
            OSError: there is no room for all of it.
        """
        self.path, self.forms = path, dict(forms)
        self.written: dict[str, Stored] = {}
        head, self._starts = _header(forms)
        self._file = path.open("wb")
        size = len(head) + sum(form.nbytes for form in forms.values())
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(self._file.fileno(), 0, size)
            self._file.write(head)
        except OSError:
            self._file.close()
            raise

    def put(self, name: str, tensor: np.ndarray) -> None:
        """Write a tensor; in a smaller shape than was said, the file is a draft for ``settle``."""
        form = self.forms[name]
        if tensor.dtype != form.dtype or math.prod(tensor.shape) > math.prod(form.shape):
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, there is room for {form}")
        self._file.seek(self._starts[name])
        self._file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
        self.written[name] = Stored(self.path, _NAMES[form.dtype], tensor.shape, self._starts[name])

    def is_as_said(self) -> bool:
        """Whether all that was said came, in the shapes that were said."""
        came = {name: stored.shape for name, stored in self.written.items()}
        return came == {name: form.shape for name, form in self.forms.items()}

    def close(self) -> None:
        """Nothing comes any more."""
        self._file.close()

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_tensors(path: Path, tensors: Mapping[str, Array | np.ndarray]) -> None:
    """A safetensors file of tensors that are in memory."""
    forms = {name: Form(tensor.shape, np.dtype(tensor.dtype)) for name, tensor in tensors.items()}
    with TensorFile(path, forms) as file:
        for name, tensor in tensors.items():
            file.put(name, np.asarray(tensor))


def settle(draft: TensorFile, path: Path, forms: Mapping[str, Form]) -> None:
    """Make ``path`` of a closed draft; tensor by tensor where some came in other shapes.

    Args:
        draft: goes.
        path: on the same disk.
        forms: of the tensors that came; where larger than what came, zeros fill it up.
    """
    if draft.is_as_said() and forms == draft.forms:
        draft.path.replace(path)
        return
    with TensorFile(path, forms) as file:
        for name, stored in draft.written.items():
            missing = zip(stored.shape, forms[name].shape, strict=True)
            file.put(name, np.pad(read_tensor(stored), [(0, to - have) for have, to in missing]))
    draft.path.unlink()


def _header(forms: Mapping[str, Form]) -> tuple[bytes, dict[str, int]]:
    """Bytes, and the place of each tensor: wide types first, and names in order."""
    order = sorted(forms, key=lambda name: (-_rank_of_type(forms[name].dtype), name))
    content: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for name in order:
        offsets[name], end = end, end + forms[name].nbytes
        content[name] = {
            "dtype": _NAMES[forms[name].dtype],
            "shape": list(forms[name].shape),
            "data_offsets": [offsets[name], end],
        }
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return head, {name: len(head) + offset for name, offset in offsets.items()}


def _rank_of_type(dtype: np.dtype) -> int:
    """As the library orders types."""
    return ("F16", "BF16", "F32", "F64").index(_NAMES[dtype])

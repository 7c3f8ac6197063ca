"""The tensors of a Hugging Face folder, memory-mapped."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lorafuse_jax.models.filling import Index, StoredTensor
from lorafuse_jax.types import UserError

FLOATS = ("F64", "F32", "F16", "BF16")
"""Stored types that hold a weight itself; integers and 8-bit floats would need their scales."""


def stored_tensors(folder: Path) -> Iterator[StoredTensor]:
    """Every tensor of the checkpoint, to be read when it is needed.

    Raises:
        UserError: a file that is missing or damaged, or a tensor that is no plain weight.
    """
    for file in weight_files(folder):
        with _open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (a safetensors handle is no dict)
                stored = tensors.get_slice(name)
                if stored.get_dtype() not in FLOATS:
                    raise UserError(
                        f"{file}: {name} is stored as {stored.get_dtype()}; quantised weights are "
                        f"not read, only {', '.join(FLOATS)}"
                    )
                shape = tuple(stored.get_shape())
                yield StoredTensor(name, shape, file, partial(_read, file, name))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up a checkpoint.

    Raises:
        UserError: there are none, or one that the index names is missing.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index} is damaged ({error}); download it again") from None
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise UserError(f"{index} names {missing[0]}, which is not there; download it again")
        return [folder / name for name in names]
    if single.exists():
        return [single]
    pickles = sorted(file.name for file in folder.glob("*.bin"))
    advice = (
        f"; {pickles[0]} is a pickle, which is never loaded: save the model again with "
        "safe_serialization=True"
        if pickles
        else ""
    )
    raise UserError(f"{folder} has no model.safetensors{advice}")


def _open(file: Path):
    try:
        return safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged or cut short ({error}); download it again") from None


def _read(file: Path, name: str, index: Index):
    """The file is opened for each tensor, so that pages of earlier ones need not stay mapped."""
    with _open(file) as tensors:
        return tensors.get_slice(name)[index]

"""Safetensors files, whole or in shards with an index."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from jaxtyping import Array
from safetensors import SafetensorError, safe_open
from safetensors.flax import load_file

from lorafuse_jax.formats.folder import read_json
from lorafuse_jax.types import UserError


def write_index(path: Path, files: Mapping[str, str], total_size: int) -> None:
    """``NAME.safetensors.index.json``: which tensor is in which file."""
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(files.items()))}
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def files_of(path: Path) -> dict[str, Path]:
    """Tensor name -> file, for a safetensors file or the index beside where it would be.

    Args:
        path: ``.../NAME.safetensors``; if there is no such file, ``NAME.safetensors.index.json`` is
            read.

    Raises:
        UserError: there is neither, one is damaged, or a shard or a tensor of it is missing.
    """
    if path.is_file():
        with open_tensors(path) as file:
            return dict.fromkeys(file.keys(), path)
    index = path.with_name(path.name + ".index.json")
    if not index.is_file():
        raise UserError(f"{path} does not exist")
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict):
        raise UserError(f"{index} has no weight_map: it is no index of shards")
    shards = {name: path.parent / str(file) for name, file in listed.items()}
    for shard in sorted(set(shards.values())):
        if shard.parent != path.parent or not shard.is_file():
            raise UserError(f"{shard} is missing; {index.name} lists it; copy it there")
        with open_tensors(shard) as file:
            expected = {name for name, place in shards.items() if place == shard}
            if lacking := sorted(expected - set(file.keys())):
                raise UserError(f"{shard} lacks tensor {lacking[0]}, which {index.name} lists")
    return shards


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of a safetensors file or of the shards of its index.

    Raises:
        UserError: as ``files_of``.
    """
    tensors: dict[str, Array] = {}
    for file in sorted(set(files_of(path).values())):
        try:
            tensors |= load_file(str(file))
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise _damaged(file, error) from None
    return tensors


@contextmanager
def open_tensors(path: Path, framework: str = "flax") -> Iterator[Any]:
    """A safetensors file to be read tensor by tensor.

    Raises:
        UserError: it is damaged.
    """
    try:
        handle = safe_open(str(path), framework=framework)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None
    with handle as file:
        yield file


def hash_of(path: Path) -> str:
    """sha256 over the bytes of a safetensors file or of its shards, in order of name."""
    digest = sha256()
    for file in sorted(set(files_of(path).values())):
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged or no safetensors file ({error}); copy or download it again"
    )

"""Between a module stacked over layers and one tensor a layer, and tensors and their file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors import SafetensorError
from safetensors.flax import load_file, save_file

from lorafuse_jax.types import UserError

_LAYER_KEY = re.compile(r"model\.layers\.(\d+)\.([A-Za-z_][\w.]*)")


class LayerKey(NamedTuple):
    """Where a tensor belongs: module path and layer number."""

    module: str
    layer: int


def hf_name(module: str, layer: int) -> str:
    """``layers/self_attn/q_proj``, 3 -> ``model.layers.3.self_attn.q_proj``.

    Raises:
        UserError: not a module of the layers.
    """
    head, _, rest = module.partition("/")
    if head != "layers" or not rest:
        raise UserError(f"cannot write module {module!r}: expected a path like layers/mlp/up_proj")
    return f"model.layers.{layer}.{rest.replace('/', '.')}"


def parse_hf_name(name: str) -> LayerKey | None:
    """The inverse of ``hf_name``; None for names of another form."""
    match = _LAYER_KEY.fullmatch(name)
    if match is None:
        return None
    return LayerKey("layers/" + match[2].replace(".", "/"), int(match[1]))


def in_layer_order(
    module: str, found: Mapping[int, Array], layers: int, where: Path
) -> list[Array]:
    """Tensors of layers 0 .. layers-1 of a module.

    Raises:
        UserError: one is missing, or shapes differ.
    """
    missing = [layer for layer in range(layers) if layer not in found]
    if missing:
        raise UserError(
            f"{where}: {hf_name(module, missing[0])} is missing; there are {layers} layers, and "
            "every module must be adapted in all of them"
        )
    ordered = [found[layer] for layer in range(layers)]
    for layer, tensor in enumerate(ordered):
        if tensor.shape != ordered[0].shape:
            raise UserError(
                f"{where}: {hf_name(module, layer)} has shape {list(tensor.shape)}, layer 0 has "
                f"{list(ordered[0].shape)}"
            )
    return ordered


def check_layered(module: str, leaf: Float[Array, "..."], name: str) -> None:
    """Raise UserError unless the leaf has the three axes [L, ...] of one adapter."""
    if leaf.ndim != 3:
        raise UserError(
            f"{module}: {name} has shape {list(leaf.shape)}, an adapter on disk has three axes "
            "[L, ...]; take(stacked, member) picks one member"
        )


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """A safetensors file, as PyTorch would write it."""
    whole = {name: jnp.asarray(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}
    save_file(whole, str(path), metadata={"format": "pt"})


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of a safetensors file.

    Raises:
        UserError: no such file, or it is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}); copy or download it again"
        ) from None

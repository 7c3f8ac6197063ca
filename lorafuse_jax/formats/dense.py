"""Dense adapters: ``delta.safetensors``, one tensor [I, O] a module and layer.

Names are the Hugging Face module's plus ``.delta``; the tensor is to be added to the transpose of
that module's weight. PEFT has no format for them.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from lorafuse_jax.formats.folder import new_folder, write_json
from lorafuse_jax.formats.layers import (
    check_layered,
    hf_name,
    in_layer_order,
    parse_hf_name,
    read_tensors,
    write_tensors,
)
from lorafuse_jax.types import Adapter, DenseDelta, UserError

DELTA_FILE = "delta.safetensors"
_ENDING = ".delta"


def save_dense(
    folder: Path, adapter: Adapter, *, base_model: str, provenance: dict[str, Any]
) -> None:
    """Write an adapter of DenseDeltas [L, I, O], whole or not at all, with ``provenance.json``.

    Raises:
        UserError: the folder is taken, or an update is not one DenseDelta.
    """
    tensors: dict[str, Array] = {}
    for module, update in adapter.items():
        if not isinstance(update, DenseDelta):
            raise UserError(f"{module} is low-rank; use save_adapter, or to_delta first")
        check_layered(module, update.delta, "delta")
        for layer, delta in enumerate(update.delta):
            tensors[hf_name(module, layer) + _ENDING] = delta
    if not tensors:
        raise UserError("the adapter is empty: nothing to save")
    with new_folder(folder) as whole:
        write_tensors(whole / DELTA_FILE, tensors)
        write_json(whole / "provenance.json", {"base_model": base_model, **provenance})


def load_dense(folder: Path) -> Adapter:
    """An adapter of DenseDeltas [L, I, O].

    Raises:
        UserError: the file is missing or damaged, or has other tensors or missing layers.
    """
    path = folder / DELTA_FILE
    found: dict[str, dict[int, Array]] = defaultdict(dict)
    for name, tensor in read_tensors(path).items():
        where = parse_hf_name(name.removesuffix(_ENDING)) if name.endswith(_ENDING) else None
        if where is None or tensor.ndim != 2:
            raise UserError(
                f"{path}: cannot use tensor {name!r} {list(tensor.shape)}; expected matrices "
                f"called like model.layers.0.self_attn.q_proj{_ENDING}"
            )
        found[where.module][where.layer] = tensor
    if not found:
        raise UserError(f"{path} holds no tensors")
    layers = 1 + max(layer for by_layer in found.values() for layer in by_layer)
    return {
        module: DenseDelta(jnp.stack(in_layer_order(module, by_layer, layers, path)))
        for module, by_layer in sorted(found.items())
    }

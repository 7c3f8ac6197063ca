"""Dense adapters: safetensors with one tensor [I, O] a module and layer, a shard a module.

Names are the Hugging Face module's plus ``.delta``; the tensor is to be added to the transpose of
that module's weight. PEFT has no format for them; ``lorafuse export`` adds them to a model.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats.folder import new_folder, write_json
from lorafuse_jax.formats.layers import (
    check_finite,
    check_layered,
    hf_name,
    layers_in,
    parse_hf_name,
    split_uneven,
)
from lorafuse_jax.formats.tensors import read_tensors, write_index, write_tensors
from lorafuse_jax.types import Adapter, DenseDelta, UserError

DELTA_FILE = "delta.safetensors"
PROVENANCE_FILE = "provenance.json"
ENDING = ".delta"


def save_dense(
    folder: Path, parts: Iterable[Adapter], *, base_model: str, provenance: dict[str, Any]
) -> None:
    """Write an adapter, whole or not at all, part by part, with ``provenance.json``.

    Args:
        folder: to be made; may be there if it is empty.
        parts: adapters with leaves [L, ...] of different modules, such as ``[adapter]``. Each is
            written before the next is asked for, so that a generator needs memory for one alone.
        base_model: name or path of the model it belongs to.
        provenance: where it comes from, as JSON.

    Raises:
        UserError: the folder is taken, there is nothing to write, or a module comes twice.
    """
    files: dict[str, str] = {}
    size = 0
    with new_folder(folder) as whole:
        for number, (module, update) in enumerate(
            (module, update) for part in parts for module, update in part.items()
        ):
            tensors = _tensors_of(module, update)
            if tensors.keys() & files.keys():
                raise UserError(f"module {module} comes twice")
            file = f"delta-{number:05}.safetensors"
            write_tensors(whole / file, tensors)
            files |= dict.fromkeys(tensors, file)
            size += sum(tensor.nbytes for tensor in tensors.values())
        if not files:
            raise UserError("the adapter is empty: nothing to save")
        write_index(whole / f"{DELTA_FILE}.index.json", files, size)
        write_json(whole / PROVENANCE_FILE, {"base_model": base_model, **provenance})


def load_dense(folder: Path) -> Adapter:
    """An adapter of DenseDeltas [L, I, O]; layers that are not there are zero.

    Raises:
        UserError: a file is missing or damaged, or has other tensors.
    """
    path = folder / DELTA_FILE
    found: dict[str, dict[int, Array]] = defaultdict(dict)
    for name, tensor in read_tensors(path).items():
        where = parse_hf_name(name.removesuffix(ENDING)) if name.endswith(ENDING) else None
        if where is None or tensor.ndim != 2:
            raise UserError(
                f"{path}: cannot use tensor {name!r} {list(tensor.shape)}; expected matrices "
                f"called like model.layers.0.self_attn.q_proj{ENDING}"
            )
        check_finite(tensor, name, path)
        found[where.module][where.layer] = tensor
    if not found:
        raise UserError(f"{path} holds no tensors")
    even = split_uneven(found, lambda tensor: tensor.shape)
    layers = layers_in(even)
    return {
        module: DenseDelta(_stack(by_layer, layers[module]))
        for module, by_layer in sorted(even.items())
    }


def is_dense(folder: Path) -> bool:
    """Whether ``save_dense`` wrote the folder."""
    return (folder / f"{DELTA_FILE}.index.json").exists()


def _tensors_of(module: str, update: Any) -> dict[str, Array]:
    for name, leaf in zip(update._fields, update, strict=True):
        check_layered(module, leaf, name)
    dense = to_delta({module: update})[module]
    assert isinstance(dense, DenseDelta)
    return {hf_name(module, layer) + ENDING: delta for layer, delta in enumerate(dense.delta)}


def _stack(by_layer: dict[int, Array], layers: int) -> Array:
    nothing = jnp.zeros_like(next(iter(by_layer.values())))
    return jnp.stack([by_layer.get(layer, nothing) for layer in range(layers)])

"""Dense adapters: safetensors with one tensor [I, O] a module and layer, a shard a module.

Names are the Hugging Face module's plus ``.delta``; the tensor is to be added to the transpose of
that module's weight. PEFT has no format for them; ``lorafuse export`` adds them to a model.
"""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
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
from lorafuse_jax.formats.pieces import Piece, pieces_of
from lorafuse_jax.formats.tensor_file import Form, TensorFile
from lorafuse_jax.formats.tensors import read_tensors, write_index
from lorafuse_jax.types import Adapter, DenseDelta, UserError

DELTA_FILE = "delta.safetensors"
PROVENANCE_FILE = "provenance.json"
ENDING = ".delta"


def save_dense(
    folder: Path, adapter: Adapter, *, base_model: str, provenance: dict[str, Any]
) -> None:
    """Write an adapter, whole or not at all, with ``provenance.json``.

    Args:
        folder: to be made; may be there if it is empty.
        adapter: leaves [L, ...]; low-rank updates are written dense.
        base_model: name or path of the model it belongs to.
        provenance: where it comes from, as JSON.

    Raises:
        UserError: the folder is taken, or there is nothing to write.
    """
    about = {"base_model": base_model, "provenance": provenance}
    write_dense(folder, adapter, pieces_of(adapter), **about)


def write_dense(
    folder: Path,
    like: Adapter,
    pieces: Iterable[Piece],
    *,
    base_model: str,
    provenance: dict[str, Any],
) -> None:
    """As ``save_dense``, of an adapter that comes in pieces: one of them is in memory at a time.

    Args:
        folder: to be made; may be there if it is empty.
        like: the adapter that will come, or the shapes and types of its leaves.
        pieces: all of it, the layers of a module one after the other.
        base_model: see ``save_dense``.
        provenance: see there.

    Raises:
        UserError: as ``save_dense``.
        OSError: there is no room on the disk, which is taken before the first piece is asked for.
    """
    if not like:
        raise UserError("the adapter is empty: nothing to save")
    forms = {module: _forms(module, update) for module, update in like.items()}
    names = {module: f"delta-{number:05}.safetensors" for number, module in enumerate(like)}
    with new_folder(folder) as whole, ExitStack() as files:
        open_files = {
            module: files.enter_context(TensorFile(whole / names[module], own))
            for module, own in forms.items()
        }
        for piece in pieces:
            _put(open_files[piece.module], piece)
            del piece  # so that it is gone while the next is made
        placed = {name: names[module] for module, own in forms.items() for name in own}
        size = sum(form.nbytes for own in forms.values() for form in own.values())
        write_index(whole / f"{DELTA_FILE}.index.json", placed, size)
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


def _forms(module: str, update: Any) -> dict[str, Form]:
    """Name -> shape and type of every layer."""
    for name, leaf in zip(update._fields, update, strict=True):
        check_layered(module, leaf, name)
    form = Form((update[0].shape[1], update[-1].shape[2]), np.dtype(update[0].dtype))
    return {hf_name(module, layer) + ENDING: form for layer in range(update[0].shape[0])}


def _put(file: TensorFile, piece: Piece) -> None:
    dense = to_delta({"": piece.update})[""]
    assert isinstance(dense, DenseDelta)
    for layer, delta in enumerate(np.asarray(dense.delta), piece.first):
        file.put(hf_name(piece.module, layer) + ENDING, delta)


def _stack(by_layer: dict[int, Array], layers: int) -> Array:
    nothing = jnp.zeros_like(next(iter(by_layer.values())))
    return jnp.stack([by_layer.get(layer, nothing) for layer in range(layers)])

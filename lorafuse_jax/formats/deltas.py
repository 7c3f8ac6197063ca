"""The updates of an adapter folder one at a time, as matrices, whatever the size of the whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lorafuse_jax.formats.dense import DELTA_FILE, ENDING, is_dense
from lorafuse_jax.formats.layers import hf_name, parse_hf_name
from lorafuse_jax.formats.peft_layers import PeftLayers, open_peft
from lorafuse_jax.formats.stored import Stored, find_tensors, read_rows, read_tensor
from lorafuse_jax.types import UserError


@dataclass(frozen=True)
class Delta:
    """The update of one module of one layer.

    Attributes:
        name: the module, as Hugging Face calls it.
        shape: I, O.
        make: the matrix [I, O] in float32, made when it is asked for.
    """

    name: str
    shape: tuple[int, int]
    make: Callable[[], Float[np.ndarray, "I O"]]


def deltas_of(folder: Path) -> list[Delta]:
    """What an adapter changes, low-rank or dense; layers that are all zero are left out.

    Raises:
        UserError: nothing readable is there, or all of it is zero.
    """
    deltas = list(_dense_deltas(folder) if is_dense(folder) else _low_rank_deltas(folder))
    if not deltas:
        raise UserError(f"{folder} changes nothing: all of its updates are zero")
    return deltas


def _low_rank_deltas(folder: Path) -> Iterator[Delta]:
    file = open_peft(folder)
    for module, by_layer in file.extents().items():
        for layer, extent in sorted(by_layer.items()):
            if extent.used_a and extent.used_b:
                shape = extent.fan_in, extent.fan_out
                yield Delta(hf_name(module, layer), shape, partial(_product, file, module, layer))


def _product(file: PeftLayers, module: str, layer: int) -> np.ndarray:
    """By NumPy: accelerators multiply float32 with fewer digits unless told otherwise.

    In memory it is the transpose, as most weights are: it is added to them in their order.
    """
    lora_a, lora_b = (factor.astype(np.float32, copy=False) for factor in file.read(module, layer))
    return (lora_b.T @ lora_a.T).T


def _dense_deltas(folder: Path) -> Iterator[Delta]:
    for name, stored in sorted(find_tensors(folder / DELTA_FILE).items(), key=_place):
        module = name.removesuffix(ENDING)
        if module == name or parse_hf_name(module) is None or len(stored.shape) != 2:
            raise UserError(
                f"{stored.file}: cannot use tensor {name!r} {list(stored.shape)}; expected "
                f"matrices called like model.layers.0.self_attn.q_proj{ENDING}"
            )
        with stored.file.open("rb") as file:
            first_row = read_rows(file, stored, 0, 1)
        if first_row.any() or read_tensor(stored).any():
            yield Delta(module, stored.shape, partial(_read, stored))


def _place(named: tuple[str, Stored]) -> tuple[Path, str]:
    return named[1].file, named[0]


def _read(stored: Stored) -> np.ndarray:
    return read_tensor(stored).astype(np.float32, copy=False)

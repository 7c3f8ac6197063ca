"""The updates of an adapter folder one at a time, as matrices, whatever the size of the whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lorafuse_jax.formats.dense import DELTA_FILE, ENDING, is_dense
from lorafuse_jax.formats.layers import hf_name, parse_hf_name
from lorafuse_jax.formats.peft import load_peft
from lorafuse_jax.formats.tensors import files_of, open_tensors
from lorafuse_jax.types import LoraPair, UserError


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
    for module, pair in load_peft(folder).items():
        assert isinstance(pair, LoraPair)
        lora_a, lora_b = (np.asarray(leaf) for leaf in pair)
        for layer, factors in enumerate(zip(lora_a, lora_b, strict=True)):
            if all(factor.any() for factor in factors):
                shape = factors[0].shape[0], factors[1].shape[1]
                yield Delta(hf_name(module, layer), shape, partial(_product, *factors))


def _product(lora_a: np.ndarray, lora_b: np.ndarray) -> np.ndarray:
    """By NumPy: accelerators multiply float32 with fewer digits unless told otherwise."""
    return lora_a.astype(np.float32) @ lora_b.astype(np.float32)


def _dense_deltas(folder: Path) -> Iterator[Delta]:
    files = files_of(folder / DELTA_FILE)
    for file in sorted(set(files.values())):
        with open_tensors(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a dict)
                stored = tensors.get_slice(name)
                shape = tuple(stored.get_shape())
                module = name.removesuffix(ENDING)
                if module == name or parse_hf_name(module) is None or len(shape) != 2:
                    raise UserError(
                        f"{file}: cannot use tensor {name!r} {list(shape)}; expected matrices "
                        f"called like model.layers.0.self_attn.q_proj{ENDING}"
                    )
                if stored[:1].any() or tensors.get_tensor(name).any():
                    yield Delta(module, shape, partial(_read, file, name))


def _read(file: Path, name: str) -> np.ndarray:
    with open_tensors(file, framework="numpy") as tensors:
        return tensors.get_tensor(name).astype(np.float32)

"""A PEFT adapter on disk, read layer by layer.

PEFT stores ``lora_A`` [R, I] and ``lora_B`` [O, R] a layer, under the names of ``peft_names``, and
multiplies by alpha / r. What is read here is the transposes, with the scale folded into ``lora_b``.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lorafuse_jax.formats.layers import check_finite, hf_name, layers_in, split_uneven
from lorafuse_jax.formats.peft_config import CONFIG_FILE, PeftConfig, read_peft_config
from lorafuse_jax.formats.peft_names import parse_tensor_name, tensor_name
from lorafuse_jax.formats.stored import Stored, find_tensors, read_tensor
from lorafuse_jax.types import UserError

WEIGHTS_FILE = "adapter_model.safetensors"
_COPY_OF_BASE = ".base_layer.weight"
"""PEFT adds the base's own weights of an adapted embedding or head; the adapter is not in them."""

_DTYPES = ("F32", "F16", "BF16", "F64")


class Factors(NamedTuple):
    """One layer in NumPy, where no digit is lost: XLA takes the smallest floats for zero."""

    lora_a: Float[np.ndarray, "I R"]
    lora_b: Float[np.ndarray, "R O"]


class Extent(NamedTuple):
    """What one layer is, as a pass over its numbers finds it.

    Attributes:
        fan_in: I.
        rank: R.
        fan_out: O.
        dtype: that both factors have in memory.
        used_a: whether ``lora_a`` is not all zero.
        used_b: whether ``lora_b`` is not all zero.
    """

    fan_in: int
    rank: int
    fan_out: int
    dtype: np.dtype
    used_a: bool
    used_b: bool


class _Halves(NamedTuple):
    """Where one layer is; its module's name as Hugging Face has it."""

    name: str
    lora_a: Stored
    lora_b: Stored


class PeftLayers:
    """An adapter whose headers were read and fit; its numbers are read when they are asked for.

    The dtype of the file is kept where the scaled ``lora_b`` is exact in it, as with a power of
    two. Otherwise both factors become float32, where ``lora_b`` is rounded: relative error 2^-24 at
    most. Float64 is read as float32. The base's own weights, which PEFT adds for an embedding or
    output head that is adapted, are passed over.

    Attributes:
        config: its configuration.
        path: its weights; shards go by that name.
        layers: module -> L; not each of them need be adapted.
    """

    def __init__(
        self, config: PeftConfig, path: Path, tensors: Mapping[str, Stored] | None = None
    ) -> None:
        """Look at names and shapes.

        Args:
            config: its configuration.
            path: its weights.
            tensors: those of the file to look at; all by default.

        Raises:
            UserError: something is missing, damaged, or beyond a plain low-rank update; names it.
        """
        self.config, self.path = config, path
        found = _halves_by_module(find_tensors(path) if tensors is None else tensors, path)
        for by_layer in found.values():
            for halves in by_layer.values():
                _check_rank(halves, config, path)
        even = split_uneven(found, lambda at: (at.lora_a.shape[1], at.lora_b.shape[0]))
        self._halves: dict[str, dict[int, _Halves]] = even
        self.layers = layers_in(even)

    def adapted(self, module: str) -> list[int]:
        """The layers of a module that the file has."""
        return sorted(self._halves[module])

    def shapes(self) -> dict[str, list[int]]:
        """Name, as Hugging Face has it, -> I, O of all layers that the file has."""
        every = (at for by_layer in self._halves.values() for at in by_layer.values())
        return {at.name: [at.lora_a.shape[1], at.lora_b.shape[0]] for at in every}

    def read(self, module: str, layer: int) -> Factors:
        """One layer that the file has.

        Raises:
            UserError: not finite, or not with its scale; names it.
        """
        at = self._halves[module][layer]
        halves = []
        for where, stored in zip(_tensor_names(at.name), at[1:], strict=True):
            tensor = read_tensor(stored)
            with np.errstate(over="ignore"):
                tensor = tensor.astype(np.float32) if stored.dtype == "F64" else tensor
            check_finite(tensor, where, self.path)
            halves.append(tensor.T)
        lora_a, lora_b = halves
        scale = self.config.scale_of(at.name)
        scaled = lora_b.astype(np.float64) * scale
        with np.errstate(over="ignore"):
            kept, single = scaled.astype(lora_b.dtype), scaled.astype(np.float32)
        if lora_a.dtype == lora_b.dtype and np.array_equal(kept.astype(np.float64), scaled):
            return Factors(lora_a, kept)
        check_finite(single, f"{at.name} times its scale {scale:g}", self.path)
        return Factors(lora_a.astype(np.float32), single)

    def extents(self) -> dict[str, dict[int, Extent]]:
        """Module -> layer -> what is there; a pass over all numbers, one layer at a time.

        Raises:
            UserError: as ``read``.
        """
        return {
            module: {layer: _extent(self.read(module, layer)) for layer in self.adapted(module)}
            for module in self.layers
        }


def open_peft(folder: Path) -> PeftLayers:
    """A PEFT adapter folder, to be read layer by layer.

    Raises:
        UserError: it is none, or as ``PeftLayers``.
    """
    return PeftLayers(read_peft_config(folder), weights_path(folder))


def weights_path(folder: Path) -> Path:
    """Where the weights of a PEFT folder are, or the name that its shards go by.

    Raises:
        UserError: there are none, or only a pickle.
    """
    path = folder / WEIGHTS_FILE
    if not path.exists() and not path.with_name(path.name + ".index.json").exists():
        old = sorted(file.name for file in folder.glob("*.bin"))
        if old:
            raise UserError(
                f"{path} does not exist; {old[0]} is a pickle and is never loaded, as it could run "
                "any program. Convert it where you trust it: PeftModel.from_pretrained(base, "
                "folder).save_pretrained(new_folder)"
            )
        raise UserError(f"{path} does not exist; use PEFT's save_pretrained")
    return path


def _extent(factors: Factors) -> Extent:
    lora_a, lora_b = factors
    return Extent(
        fan_in=lora_a.shape[0],
        rank=lora_a.shape[1],
        fan_out=lora_b.shape[1],
        dtype=lora_a.dtype,
        used_a=bool(lora_a.any()),
        used_b=bool(lora_b.any()),
    )


def _tensor_names(name: str) -> tuple[str, str]:
    return tensor_name(name, "lora_A"), tensor_name(name, "lora_B")


def _halves_by_module(tensors: Mapping[str, Stored], path: Path) -> dict[str, dict[int, _Halves]]:
    """Module -> layer -> both factors, matrices of a type that can be read."""
    found: dict[str, dict[int, dict[str, Stored]]] = defaultdict(lambda: defaultdict(dict))
    for name, stored in tensors.items():
        if name.endswith(_COPY_OF_BASE):
            continue
        where, half = parse_tensor_name(name, path)
        found[where.module][where.layer][half] = stored
    if not found:
        raise UserError(f"{path} holds no tensors")
    halves: dict[str, dict[int, _Halves]] = {}
    for module in sorted(found):
        halves[module] = {}
        for layer, own in found[module].items():
            name = hf_name(module, layer)
            for half, where in zip(("lora_A", "lora_B"), _tensor_names(name), strict=True):
                _check_matrix(own.get(half), where, path)
            halves[module][layer] = _Halves(name, own["lora_A"], own["lora_B"])
    return halves


def _check_matrix(stored: Stored | None, where: str, path: Path) -> None:
    if stored is None:
        raise UserError(f"{path}: {where} is missing")
    if len(stored.shape) != 2:
        raise UserError(f"{path}: {where} is no matrix but {list(stored.shape)}")
    if stored.dtype not in _DTYPES:
        raise UserError(
            f"{path}: {where} is stored as {stored.dtype}; expected {', '.join(_DTYPES)}"
        )


def _check_rank(halves: _Halves, config: PeftConfig, path: Path) -> None:
    rank = config.rank_of(halves.name)
    if not halves.lora_a.shape[0] == halves.lora_b.shape[1] == rank:
        raise UserError(
            f"{path}: {halves.name} has rank {halves.lora_a.shape[0]} in lora_A and "
            f"{halves.lora_b.shape[1]} in lora_B, {CONFIG_FILE} says {rank}"
        )

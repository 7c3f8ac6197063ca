"""Low-rank adapters in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

PEFT stores ``lora_A`` [R, I] and ``lora_B`` [O, R] a layer, under the names of ``peft_names``, and
multiplies by alpha / r. Our adapters are the transposes, stacked over layers, and carry no scale:
we write lora_alpha = r, which makes PEFT's scale 1, and fold a scale that we read into ``lora_b``.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import Array, Float

from lorafuse_jax.formats.folder import new_folder, write_json
from lorafuse_jax.formats.layers import (
    LayerKey,
    check_finite,
    check_layered,
    hf_name,
    hf_pattern,
    layers_in,
    split_uneven,
)
from lorafuse_jax.formats.peft_config import (
    CONFIG_FILE,
    PeftConfig,
    peft_config_json,
    read_peft_config,
)
from lorafuse_jax.formats.peft_names import MAGNITUDE, PREFIX, parse_tensor_name, tensor_name
from lorafuse_jax.formats.targets import SELECTING, selection_of
from lorafuse_jax.formats.tensors import read_tensors, write_tensors
from lorafuse_jax.types import Adapter, LoraPair, UserError

WEIGHTS_FILE = "adapter_model.safetensors"
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's max_lora_rank."""
_COPY_OF_BASE = ".base_layer.weight"
"""PEFT adds the base's own weights of an adapted embedding or head; the adapter is not in them."""

_DTYPES = (np.float32, np.float16, ml_dtypes.bfloat16)

Half = Float[np.ndarray, "..."]
"""A tensor of the file: lora_A [R, I] or lora_B [O, R]."""


class _Factors(NamedTuple):
    """One layer in NumPy, where no digit is lost: XLA takes the smallest floats for zero."""

    lora_a: Float[np.ndarray, "I R"]
    lora_b: Float[np.ndarray, "R O"]


def save_peft(
    folder: Path,
    adapter: Adapter,
    *,
    base_model: str,
    provenance: dict[str, Any],
    carried: Mapping[str, Any] | None = None,
    pad_rank: bool = False,
    magnitudes: Mapping[str, Float[Array, "L O"]] | None = None,
) -> None:
    """Write an adapter that PEFT can load, whole or not at all.

    Trailing directions whose factors are both zero, which only pad a layer to the rank of others,
    are not written, nor are layers of nothing else. The same adapter gives the same bytes.

    Args:
        folder: to be made; may be there if it is empty.
        adapter: LoraPairs with leaves [L, I, R] and [L, R, O].
        base_model: name or path of the model it belongs to.
        provenance: where it comes from, as JSON; goes into ``adapter_config.json``.
        carried: of the ``PeftConfig`` of what it was made of; where it says which modules are
            adapted and that still holds, it is written as it is. Without, all are named in full.
        pad_rank: write all modules with the next rank that vLLM can serve, padded with zeros.
        magnitudes: DoRA's, of every module; see ``save_dora``.

    Raises:
        UserError: the folder is taken, an update is not one LoraPair, all of it is zero, or the
            rank is above what can be served.
    """
    written, left_out = _written_pairs(adapter)
    if not written:
        raise UserError("the adapter is empty or all zero: nothing to save")
    ranks = {key: pair.lora_a.shape[-1] for key, pair in written.items()}
    rank = max(ranks.values())
    if pad_rank:
        rank = _served_rank(rank)
        written = {key: _pad_rank(pair, rank) for key, pair in written.items()}
        ranks = dict.fromkeys(ranks, rank)
    tensors: dict[str, Half] = {}
    for key, pair in written.items():
        name = hf_name(*key)
        tensors[tensor_name(name, "lora_A")] = pair.lora_a.T
        tensors[tensor_name(name, "lora_B")] = pair.lora_b.T
        if magnitudes is not None:
            tensors[PREFIX + name + MAGNITUDE] = np.asarray(magnitudes[key.module][key.layer])
    about = {k: v for k, v in (carried or {}).items() if k not in SELECTING}
    about |= selection_of(written, left_out, carried or {})
    config = peft_config_json(base_model, rank, _rank_patterns(ranks, rank), about, provenance)
    config["use_dora"] = magnitudes is not None
    with new_folder(folder) as whole:
        write_tensors(whole / WEIGHTS_FILE, tensors)
        write_json(whole / CONFIG_FILE, config)


def load_peft(folder: Path) -> Adapter:
    """A PEFT adapter as LoraPairs [L, I, R], [L, R, O], its scale folded into ``lora_b``.

    Layers that are not adapted are zeros, and smaller ranks are padded with zeros: exact both. The
    dtype is kept where the scaled ``lora_b`` is exact in it, as with a power of two. Otherwise
    both factors become float32, where ``lora_b`` is rounded: relative error 2^-24 at most.

    Float64 is read as float32. The base's own weights, which PEFT adds for an embedding or output
    head that is adapted, are passed over.

    Raises:
        UserError: something is missing, damaged, not finite or beyond a plain low-rank update;
            names it.
    """
    config = read_peft_config(folder)
    path = weights_path(folder)
    return pairs_in(read_tensors(path), config, path)


def pairs_in(tensors: Mapping[str, Array], config: PeftConfig, path: Path) -> Adapter:
    """As ``load_peft``, from what is in the file."""
    pairs = {
        module: {
            layer: _read_pair(halves, hf_name(module, layer), config, path)
            for layer, halves in found.items()
        }
        for module, found in sorted(_halves_by_module(tensors, path).items())
    }
    pairs = split_uneven(pairs, lambda pair: (pair.lora_a.shape[0], pair.lora_b.shape[1]))
    layers = layers_in(pairs)
    return {module: _stack_layers(found, layers[module]) for module, found in pairs.items()}


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


def _pad_rank(pair: _Factors, rank: int) -> _Factors:
    missing = rank - pair.lora_a.shape[-1]
    return _Factors(
        np.pad(pair.lora_a, ((0, 0), (0, missing))), np.pad(pair.lora_b, ((0, missing), (0, 0)))
    )


def _written_pairs(adapter: Adapter) -> tuple[dict[LayerKey, _Factors], list[LayerKey]]:
    """What is not zero, layer by layer, and what is."""
    written: dict[LayerKey, _Factors] = {}
    left_out: list[LayerKey] = []
    for module, update in adapter.items():
        if not isinstance(update, LoraPair):
            raise UserError(f"{module} is dense, PEFT's format is low-rank; use save_adapter")
        for name, leaf in zip(update._fields, update, strict=True):
            check_layered(module, leaf, name)
        lora_a, lora_b = (np.asarray(leaf) for leaf in update)
        used = (lora_a != 0).any(-2) | (lora_b != 0).any(-1)
        for layer, directions in enumerate(used):
            key = LayerKey(module, layer)
            hf_name(*key)  # a path that cannot be written is an error even where it is zero
            if directions.any():
                rank = int(directions.nonzero()[0][-1]) + 1
                written[key] = _Factors(lora_a[layer, :, :rank], lora_b[layer, :rank])
            else:
                left_out.append(key)
    return written, left_out


def _rank_patterns(ranks: Mapping[LayerKey, int], rank: int) -> dict[str, int]:
    """For modules of another rank; before them, for layers of another rank than their module."""
    by_module: dict[str, Counter[int]] = defaultdict(Counter)
    for (module, _), own in ranks.items():
        by_module[module][own] += 1
    usual = {module: counts.most_common(1)[0][0] for module, counts in by_module.items()}
    patterns = {
        "^" + re.escape(hf_name(*key)): own
        for key, own in ranks.items()
        if own != usual[key.module]
    }
    return patterns | {hf_pattern(module): own for module, own in usual.items() if own != rank}


def _served_rank(rank: int) -> int:
    for served in SERVED_RANKS:
        if rank <= served:
            return served
    raise UserError(f"rank {rank} is above {SERVED_RANKS[-1]}, the most that vLLM serves")


def _halves_by_module(
    tensors: Mapping[str, Array], path: Path
) -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """Module -> layer -> lora_A, lora_B."""
    halves: dict[str, dict[int, dict[str, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    for name, tensor in tensors.items():
        if name.endswith(_COPY_OF_BASE):
            continue
        where, half = parse_tensor_name(name, path)
        halves[where.module][where.layer][half] = np.asarray(tensor)
    if not halves:
        raise UserError(f"{path} holds no tensors")
    return halves


def _read_pair(halves: Mapping[str, Half], name: str, config: PeftConfig, path: Path) -> _Factors:
    for half in ("lora_A", "lora_B"):
        where = tensor_name(name, half)
        if half not in halves:
            raise UserError(f"{path}: {where} is missing")
        if halves[half].ndim != 2:
            raise UserError(f"{path}: {where} is no matrix but {list(halves[half].shape)}")
        if halves[half].dtype not in _DTYPES:
            raise UserError(
                f"{path}: {where} is {halves[half].dtype}; expected float32, float16 or bfloat16"
            )
        check_finite(halves[half], where, path)
    lora_a, lora_b = halves["lora_A"].T, halves["lora_B"].T
    rank = config.rank_of(name)
    if not lora_a.shape[1] == lora_b.shape[0] == rank:
        raise UserError(
            f"{path}: {name} has rank {lora_a.shape[1]} in lora_A and {lora_b.shape[0]} in lora_B, "
            f"{CONFIG_FILE} says {rank}"
        )
    scaled = lora_b.astype(np.float64) * config.scale_of(name)
    with np.errstate(over="ignore"):
        kept, single = scaled.astype(lora_b.dtype), scaled.astype(np.float32)
    if np.array_equal(kept.astype(np.float64), scaled):
        return _Factors(lora_a, kept)
    check_finite(single, f"{name} times its scale {config.scale_of(name):g}", path)
    return _Factors(lora_a.astype(np.float32), single)


def _stack_layers(pairs: Mapping[int, _Factors], layers: int) -> LoraPair:
    rank = max(pair.lora_a.shape[1] for pair in pairs.values())
    first = next(iter(pairs.values()))
    dtype = jnp.result_type(*(leaf for pair in pairs.values() for leaf in pair))
    lora_a = np.zeros((layers, first.lora_a.shape[0], rank), dtype)
    lora_b = np.zeros((layers, rank, first.lora_b.shape[1]), dtype)
    for layer, pair in pairs.items():
        lora_a[layer, :, : pair.lora_a.shape[1]] = pair.lora_a
        lora_b[layer, : pair.lora_b.shape[0]] = pair.lora_b
    return LoraPair(jnp.asarray(lora_a), jnp.asarray(lora_b))

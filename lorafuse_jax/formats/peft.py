"""Low-rank adapters in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

PEFT stores ``lora_A`` [R, I] and ``lora_B`` [O, R] a layer, under names like
``base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight``, and multiplies by alpha / r. Our
adapters are the transposes, stacked over layers, and carry no scale: we write lora_alpha = r, which
makes PEFT's scale 1, and fold a scale that we read into ``lora_b``.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lorafuse_jax.formats.folder import new_folder, write_json
from lorafuse_jax.formats.layers import (
    LayerKey,
    check_finite,
    check_layered,
    hf_name,
    hf_pattern,
    is_layered,
    layers_in,
    parse_hf_name,
)
from lorafuse_jax.formats.peft_config import (
    CONFIG_FILE,
    PeftConfig,
    peft_config_json,
    read_peft_config,
)
from lorafuse_jax.formats.tensors import read_tensors, write_tensors
from lorafuse_jax.types import Adapter, LoraPair, UserError

WEIGHTS_FILE = "adapter_model.safetensors"
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's max_lora_rank."""
_PREFIX = "base_model.model."
_COPY_OF_BASE = ".base_layer.weight"
"""PEFT adds the base's own weights of an adapted output head; nothing of the adapter is in them."""

_ENDINGS = {".lora_A.weight": "lora_A", ".lora_B.weight": "lora_B"}


def save_peft(
    folder: Path,
    adapter: Adapter,
    *,
    base_model: str,
    provenance: dict[str, Any],
    carried: Mapping[str, Any] | None = None,
    pad_rank: bool = False,
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
            adapted, that is written as it is.
        pad_rank: write all modules with the next rank that vLLM can serve, padded with zeros.

    Raises:
        UserError: the folder is taken, an update is not one LoraPair, all of it is zero, or the
            rank is above what can be served.
    """
    written = _written_pairs(adapter)
    if not written:
        raise UserError("the adapter is empty or all zero: nothing to save")
    ranks = {key: pair.lora_a.shape[-1] for key, pair in written.items()}
    if pad_rank:
        rank = _served_rank(max(ranks.values()))
        written = {key: pad_rank_of(pair, rank) for key, pair in written.items()}
        ranks = dict.fromkeys(ranks, rank)
    tensors: dict[str, Array] = {}
    for key, (lora_a, lora_b) in written.items():
        name = _PREFIX + hf_name(*key)
        tensors[f"{name}.lora_A.weight"] = lora_a.T
        tensors[f"{name}.lora_B.weight"] = lora_b.T
    where = {"target_modules": _targets(list(written))} | dict(carried or {})
    config = peft_config_json(base_model, _rank_patterns(ranks), where, provenance)
    with new_folder(folder) as whole:
        write_tensors(whole / WEIGHTS_FILE, tensors)
        write_json(whole / CONFIG_FILE, config)


def load_peft(folder: Path) -> Adapter:
    """A PEFT adapter as LoraPairs [L, I, R], [L, R, O], its scale folded into ``lora_b``.

    Layers that are not adapted are zeros, and smaller ranks are padded with zeros: exact both. So
    is a scale that is a power of two; otherwise ``lora_b`` is rounded once, in float32.

    Raises:
        UserError: something is missing, damaged, not finite or beyond a plain low-rank update;
            names it.
    """
    config = read_peft_config(folder)
    path = weights_path(folder)
    halves = _halves_by_module(read_tensors(path), path)
    layers = layers_in(halves)
    adapter: Adapter = {}
    for module, found in sorted(halves.items()):
        pairs = {
            layer: _read_pair(pair, hf_name(module, layer), config, path)
            for layer, pair in found.items()
        }
        adapter[module] = _stack_layers(module, pairs, layers[module], path)
    return adapter


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


def pad_rank_of(pair: LoraPair, rank: int) -> LoraPair:
    """One layer's pair [I, R], [R, O] written with that rank, the new directions zero."""
    missing = rank - pair.lora_a.shape[-1]
    return LoraPair(
        jnp.pad(pair.lora_a, ((0, 0), (0, missing))), jnp.pad(pair.lora_b, ((0, missing), (0, 0)))
    )


def _written_pairs(adapter: Adapter) -> dict[LayerKey, LoraPair]:
    """What is not zero, layer by layer."""
    written: dict[LayerKey, LoraPair] = {}
    for module, update in adapter.items():
        if not isinstance(update, LoraPair):
            raise UserError(f"{module} is dense, PEFT's format is low-rank; use save_adapter")
        for name, leaf in zip(update._fields, update, strict=True):
            check_layered(module, leaf, name)
        used = np.asarray((update.lora_a != 0).any(-2) | (update.lora_b != 0).any(-1))
        for layer, directions in enumerate(used):
            if directions.any():
                rank = int(directions.nonzero()[0][-1]) + 1
                pair = LoraPair(update.lora_a[layer, :, :rank], update.lora_b[layer, :rank])
                written[LayerKey(module, layer)] = pair
            else:
                hf_name(module, layer)  # a path that cannot be written is an error all the same
    return written


def _targets(written: list[LayerKey]) -> list[str]:
    """The last parts of the names where every layer is there, else all names in full."""
    layers: dict[str, set[int]] = defaultdict(set)
    for module, layer in written:
        layers[module].add(layer)
    total = layers_in({module: dict.fromkeys(numbers) for module, numbers in layers.items()})
    if all(is_layered(m) and len(numbers) == total[m] for m, numbers in layers.items()):
        return sorted({module.rpartition("/")[2] for module in layers})
    return sorted(hf_name(*key) for key in written)


def _rank_patterns(ranks: Mapping[LayerKey, int]) -> dict[str, int]:
    """One pattern a module; before it one a layer that has another rank."""
    by_module: dict[str, Counter[int]] = defaultdict(Counter)
    for (module, _), rank in ranks.items():
        by_module[module][rank] += 1
    usual = {module: counts.most_common(1)[0][0] for module, counts in by_module.items()}
    patterns = {
        re.escape(hf_name(*key)): rank for key, rank in ranks.items() if rank != usual[key.module]
    }
    return patterns | {hf_pattern(module): rank for module, rank in usual.items()}


def _served_rank(rank: int) -> int:
    for served in SERVED_RANKS:
        if rank <= served:
            return served
    raise UserError(f"rank {rank} is above {SERVED_RANKS[-1]}, the most that vLLM serves")


def _halves_by_module(
    tensors: Mapping[str, Array], path: Path
) -> dict[str, dict[int, dict[str, Array]]]:
    """Module -> layer -> lora_A, lora_B."""
    halves: dict[str, dict[int, dict[str, Array]]] = defaultdict(lambda: defaultdict(dict))
    for name, tensor in tensors.items():
        if name.endswith(_COPY_OF_BASE):
            continue
        where, half = _parse_key(name, path)
        halves[where.module][where.layer][half] = tensor
    if not halves:
        raise UserError(f"{path} holds no tensors")
    return halves


def _parse_key(name: str, path: Path) -> tuple[LayerKey, str]:
    for ending, half in _ENDINGS.items():
        if name.startswith(_PREFIX) and name.endswith(ending):
            where = parse_hf_name(name[len(_PREFIX) : -len(ending)])
            if where is not None:
                return where, half
    raise UserError(
        f"{path}: cannot use tensor {name!r}; expected names like "
        f"{_PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight"
    )


def _read_pair(halves: Mapping[str, Array], name: str, config: PeftConfig, path: Path) -> LoraPair:
    for half in _ENDINGS.values():
        if half not in halves:
            raise UserError(f"{path}: {_PREFIX}{name}.{half}.weight is missing")
        if halves[half].ndim != 2:
            shape = list(halves[half].shape)
            raise UserError(f"{path}: {_PREFIX}{name}.{half}.weight is no matrix but {shape}")
    for half, tensor in halves.items():
        check_finite(tensor, f"{_PREFIX}{name}.{half}.weight", path)
    lora_a, lora_b = halves["lora_A"].T, halves["lora_B"].T
    rank = config.rank_of(name)
    if not lora_a.shape[1] == lora_b.shape[0] == rank:
        raise UserError(
            f"{path}: {name} has rank {lora_a.shape[1]} in lora_A and {lora_b.shape[0]} in lora_B, "
            f"{CONFIG_FILE} says {rank}"
        )
    scale = config.scale_of(name)
    if scale and math.frexp(abs(scale))[0] != 0.5:  # no power of two: half precision would suffer
        lora_a, lora_b = lora_a.astype(jnp.float32), lora_b.astype(jnp.float32)
    return LoraPair(lora_a, (lora_b * scale).astype(lora_b.dtype))


def _stack_layers(module: str, pairs: Mapping[int, LoraPair], layers: int, path: Path) -> LoraPair:
    rank = max(pair.lora_a.shape[1] for pair in pairs.values())
    first = next(iter(pairs.values()))
    nothing = jax.tree.map(jnp.zeros_like, first)
    for layer, pair in pairs.items():
        if (pair.lora_a.shape[0], pair.lora_b.shape[1]) != (
            first.lora_a.shape[0],
            first.lora_b.shape[1],
        ):
            raise UserError(
                f"{path}: {hf_name(module, layer)} is [I, O] = [{pair.lora_a.shape[0]}, "
                f"{pair.lora_b.shape[1]}], {hf_name(module, next(iter(pairs)))} "
                f"[{first.lora_a.shape[0]}, {first.lora_b.shape[1]}]"
            )
    padded = [pad_rank_of(pairs.get(layer, nothing), rank) for layer in range(layers)]
    return LoraPair(*(jnp.stack(leaves) for leaves in zip(*padded, strict=True)))

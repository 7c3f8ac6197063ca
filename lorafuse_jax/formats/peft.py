"""Low-rank adapters in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

PEFT stores ``lora_A`` [R, I] and ``lora_B`` [O, R] a layer, under names like
``base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight``, and multiplies by alpha / r. Our
adapters are the transposes, stacked over layers, and carry no scale: we write lora_alpha = r, which
makes PEFT's scale 1, and fold a scale that we read into ``lora_b``.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from lorafuse_jax.formats.folder import new_folder, read_json, write_json
from lorafuse_jax.formats.layers import (
    LayerKey,
    check_layered,
    hf_name,
    in_layer_order,
    parse_hf_name,
    read_tensors,
    write_tensors,
)
from lorafuse_jax.formats.peft_config import (
    CONFIG_FILE,
    PeftConfig,
    peft_config_json,
    read_peft_config,
)
from lorafuse_jax.types import Adapter, LoraPair, UserError

WEIGHTS_FILE = "adapter_model.safetensors"
PROVENANCE_FILE = "provenance.json"
_PREFIX = "base_model.model."
_ENDINGS = {".lora_A.weight": "lora_A", ".lora_B.weight": "lora_B"}


@dataclass(frozen=True)
class PeftInfo:
    """What a PEFT folder says about itself.

    Attributes:
        base_model: name or path of the model it belongs to.
        rank: r.
        alpha: lora_alpha; already in ``lora_b`` of what ``load_peft`` returns.
        targets: target_modules.
        provenance: our ``provenance.json``; empty if another program wrote the folder.
    """

    base_model: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    provenance: dict[str, Any]


def save_peft(
    folder: Path, adapter: Adapter, *, base_model: str, provenance: dict[str, Any]
) -> None:
    """Write an adapter that PEFT can load, whole or not at all.

    Args:
        folder: to be made; may be there if it is empty.
        adapter: LoraPairs with leaves [L, I, R] and [L, R, O].
        base_model: name or path of the model it belongs to.
        provenance: where it comes from, as JSON; goes to ``provenance.json`` beside it.

    Raises:
        UserError: the folder is taken, or an update is not one LoraPair.
    """
    tensors: dict[str, Array] = {}
    ranks: dict[str, int] = {}
    for module, update in adapter.items():
        if not isinstance(update, LoraPair):
            raise UserError(f"{module} is dense, PEFT's format is low-rank; use save_adapter")
        for name, leaf in zip(update._fields, update, strict=True):
            check_layered(module, leaf, name)
        for layer, (lora_a, lora_b) in enumerate(zip(*update, strict=True)):
            name = _PREFIX + hf_name(module, layer)
            tensors[f"{name}.lora_A.weight"] = lora_a.T
            tensors[f"{name}.lora_B.weight"] = lora_b.T
        ranks[module.partition("/")[2].replace("/", ".")] = update.lora_a.shape[-1]
    if not tensors:
        raise UserError("the adapter is empty: nothing to save")
    targets = tuple(sorted({name.rpartition(".")[2] for name in ranks}))
    with new_folder(folder) as whole:
        write_tensors(whole / WEIGHTS_FILE, tensors)
        write_json(whole / CONFIG_FILE, peft_config_json(base_model, ranks, targets))
        write_json(whole / PROVENANCE_FILE, {"base_model": base_model, **provenance})


def load_peft(folder: Path) -> Adapter:
    """A PEFT adapter as LoraPairs [L, I, R], [L, R, O], its scale folded into ``lora_b``.

    Where ranks differ between layers the smaller ones are padded with zeros.

    Raises:
        UserError: something is missing, damaged, or beyond a plain low-rank update; names it.
    """
    config = read_peft_config(folder)
    path = folder / WEIGHTS_FILE
    if not path.exists():
        old = sorted(file.name for file in folder.glob("*.bin"))
        what = f"{old[0]} is a pickle and is never loaded; save it again with " if old else "use "
        raise UserError(f"{path} does not exist; {what}PEFT's save_pretrained")
    halves = _halves_by_module(read_tensors(path), path)
    layers = 1 + max(layer for found in halves.values() for layer in found)
    adapter: Adapter = {}
    for module, found in sorted(halves.items()):
        pairs = {
            layer: _read_pair(pair, hf_name(module, layer), config, path)
            for layer, pair in found.items()
        }
        adapter[module] = _stack_layers(module, pairs, layers, path)
    return adapter


def read_peft_info(folder: Path) -> PeftInfo:
    """What a PEFT folder says about itself, without its weights.

    Raises:
        UserError: ``adapter_config.json`` is missing, damaged or not supported.
    """
    config = read_peft_config(folder)
    path = folder / PROVENANCE_FILE
    provenance = read_json(path) if path.exists() else {}
    return PeftInfo(config.base_model, config.rank, config.alpha, config.targets, provenance)


def _halves_by_module(
    tensors: Mapping[str, Array], path: Path
) -> dict[str, dict[int, dict[str, Array]]]:
    """Module -> layer -> lora_A, lora_B."""
    halves: dict[str, dict[int, dict[str, Array]]] = defaultdict(lambda: defaultdict(dict))
    for name, tensor in tensors.items():
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
    lora_a, lora_b = halves["lora_A"].T, halves["lora_B"].T
    rank = config.rank_of(name)
    if not lora_a.shape[1] == lora_b.shape[0] == rank:
        raise UserError(
            f"{path}: {name} has rank {lora_a.shape[1]} in lora_A and {lora_b.shape[0]} in lora_B, "
            f"{CONFIG_FILE} says {rank}"
        )
    scale = config.scale_of(name)
    return LoraPair(lora_a, lora_b if scale == 1 else (lora_b * scale).astype(lora_b.dtype))


def _stack_layers(module: str, pairs: Mapping[int, LoraPair], layers: int, path: Path) -> LoraPair:
    rank = max(pair.lora_a.shape[1] for pair in pairs.values())
    left, right = {}, {}
    for layer, (lora_a, lora_b) in pairs.items():
        missing = rank - lora_a.shape[1]
        left[layer] = jnp.pad(lora_a, ((0, 0), (0, missing)))
        right[layer] = jnp.pad(lora_b, ((0, missing), (0, 0)))
    return LoraPair(
        jnp.stack(in_layer_order(module, left, layers, path)),
        jnp.stack(in_layer_order(module, right, layers, path)),
    )

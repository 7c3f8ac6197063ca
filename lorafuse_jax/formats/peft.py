"""PEFT adapter folders (``adapter_config.json`` and ``adapter_model.safetensors``).

PEFT writes ``W + scale * B A`` on column vectors: its ``lora_A.weight`` [R, I] is our ``lora_a``
transposed, its ``lora_B.weight`` [O, R] our ``lora_b`` transposed. Our adapters carry no scale: on
writing ``lora_alpha = r`` says so, on reading the scale is folded into ``lora_b``.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from lorafuse_jax.formats.folder import read_tensors, whole_folder
from lorafuse_jax.formats.names import group_by_module, tensor_name
from lorafuse_jax.types import Adapter, LoraPair, UserError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
PATTERN = (
    r"base_model\.model\.model\.layers\.(?P<layer>\d+)\.(?P<module>[\w.]+)"
    r"\.lora_(?P<part>[AB])\.weight"
)
UNSUPPORTED = {
    "use_dora": False,
    "bias": "none",
    "modules_to_save": None,
    "fan_in_fan_out": False,
    "lora_bias": False,
    "trainable_token_indices": None,
    "target_parameters": None,
}
"""Settings that change what an adapter computes, with the only value that is supported."""


def save_peft(
    folder: Path, adapter: Adapter, *, base_model: str, provenance: dict[str, Any]
) -> None:
    """Write a low-rank adapter [L, ...] so that PEFT and what builds on it can load it.

    Raises:
        UserError: the folder is there already and not empty, or modules differ in rank.
    """
    ranks = {module: update[0].shape[-1] for module, update in adapter.items()}
    if len(set(ranks.values())) != 1:
        raise UserError(f"modules of different rank: {ranks}; pad_rank makes them equal")
    rank = next(iter(ranks.values()))
    tensors = {}
    for module, pair in adapter.items():
        if not isinstance(pair, LoraPair):
            raise UserError(f"{module} is dense; compress it to a rank, or use save_adapter")
        factors = zip(np.asarray(pair.lora_a), np.asarray(pair.lora_b), strict=True)
        for layer, (lora_a, lora_b) in enumerate(factors):
            name = PREFIX + tensor_name(module, layer)
            tensors[f"{name}.lora_A.weight"] = np.ascontiguousarray(lora_a.T)
            tensors[f"{name}.lora_B.weight"] = np.ascontiguousarray(lora_b.T)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "target_modules": sorted(module.rpartition("/")[2] for module in adapter),
        "inference_mode": True,
        **{key: value for key, value in UNSUPPORTED.items() if value is not None},
    }
    with whole_folder(folder, provenance) as temporary:
        save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        (temporary / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def load_peft(folder: Path) -> Adapter:
    """Read a PEFT LoRA folder; layers of smaller rank are padded with zeros.

    Raises:
        UserError: missing or damaged files, or an adapter of a kind that is not supported.
    """
    config = _read_config(folder)
    file = folder / WEIGHTS_FILE
    grouped = group_by_module(read_tensors(file), PATTERN, file)
    adapter: Adapter = {}
    for module in sorted({module for module, _ in grouped}):
        parts = {part: grouped.get((module, part)) for part in "AB"}
        for part, factors in parts.items():
            if factors is None:
                raise UserError(f"{file}: {module} has no lora_{part}; the adapter is not whole")
        layers = [
            _scaled_pair(a, b, module, layer, config, file)
            for layer, (a, b) in enumerate(zip(parts["A"] or [], parts["B"] or [], strict=True))
        ]
        rank = max(a.shape[1] for a, _ in layers)
        lora_a = np.stack([np.pad(a, ((0, 0), (0, rank - a.shape[1]))) for a, _ in layers])
        lora_b = np.stack([np.pad(b, ((0, rank - b.shape[0]), (0, 0))) for _, b in layers])
        adapter[module] = LoraPair(jnp.asarray(lora_a), jnp.asarray(lora_b))
    return adapter


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_FILE
    if not file.exists():
        raise UserError(f"{folder} is no PEFT adapter: it has no {CONFIG_FILE}")
    try:
        config = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is damaged: {error}") from None
    if config.get("peft_type") != "LORA":
        raise UserError(
            f"{file}: peft_type {config.get('peft_type')!r} is not supported, only LORA"
        )
    for key, only in UNSUPPORTED.items():
        if config.get(key, only) not in (only, None):
            raise UserError(f"{file}: {key} = {config[key]!r} is not supported, only {only!r}")
    if not (folder / WEIGHTS_FILE).exists() and list(folder.glob("*.bin")):
        raise UserError(
            f"{folder} holds a pickle (.bin), which is never loaded; save it again with "
            "safe_serialization=True"
        )
    return config


def _scaled_pair(a, b, module, layer, config, file) -> tuple[np.ndarray, np.ndarray]:
    """Our orientation, PEFT's scale folded into B."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise UserError(f"{file}: {module}, layer {layer}: A {a.shape} and B {b.shape} do not fit")
    name = tensor_name(module, layer)
    rank = _from_pattern(config.get("rank_pattern"), name, config["r"])
    if rank != a.shape[0]:
        raise UserError(f"{file}: {module}, layer {layer} has rank {a.shape[0]}, not {rank}")
    alpha = _from_pattern(config.get("alpha_pattern"), name, config.get("lora_alpha", 8))
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return a.T, (b * b.dtype.type(scale)).T


def _from_pattern(pattern: dict[str, Any] | None, name: str, default: Any) -> Any:
    """PEFT's rule: the first key that is the name's end, as a regular expression."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default

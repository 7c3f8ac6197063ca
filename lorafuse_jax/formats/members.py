"""Adapters that are to be fused: read together, and checked against each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from lorafuse_jax.adapter import stack
from lorafuse_jax.formats.dense import is_dense
from lorafuse_jax.formats.layers import hf_name
from lorafuse_jax.formats.peft import load_peft, weights_path
from lorafuse_jax.formats.peft_config import PeftConfig, read_peft_config
from lorafuse_jax.formats.tensors import hash_of
from lorafuse_jax.types import Adapter, LoraPair, UserError


@dataclass(frozen=True)
class Members:
    """Adapters of one base model.

    Attributes:
        names: the folders, as given.
        stacked: their updates, leaves [S, L, ...]; smaller ranks are padded with zeros.
        base_model: name or path of what they belong to.
        carried: what their configurations say of where they belong, as far as all agree.
        hashes: sha256 of each member's weights.
    """

    names: tuple[str, ...]
    stacked: Adapter
    base_model: str
    carried: dict[str, Any]
    hashes: tuple[str, ...]


def load_members(folders: Sequence[Path], *, base_model: str | None = None) -> Members:
    """Read PEFT adapters that belong to one base model.

    Args:
        folders: of PEFT adapters, of any ranks and alphas.
        base_model: what they belong to, whatever their configurations say.

    Raises:
        UserError: one cannot be read, is dense or all zero, or differs from the first in base
            model, modules, layers or shapes; names the member and the module.
    """
    if not folders:
        raise UserError("there is nothing to fuse: no adapters were given")
    _check_twice(folders)
    for folder in folders:
        if is_dense(folder):
            raise UserError(f"{folder} is a dense delta; members must be low-rank PEFT adapters")
    configs = [read_peft_config(folder) for folder in folders]
    if base_model is None:
        base_model = _one_base(folders, configs)
    adapters = [load_peft(folder) for folder in folders]
    for folder, adapter in zip(folders, adapters, strict=True):
        _check_like(folders[0], adapters[0], folder, adapter)
        if not any((update.lora_a.any() & update.lora_b.any()) for update in _pairs(adapter)):
            raise UserError(
                f"{folder}: all of its updates are zero; was it saved before it was trained?"
            )
    return Members(
        names=tuple(map(str, folders)),
        stacked=stack(adapters),
        base_model=base_model,
        carried=_agreed(configs),
        hashes=tuple(hash_of(weights_path(folder)) for folder in folders),
    )


def _check_twice(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise UserError(f"{folder} is given twice; weights make a member count more")
        seen.add(folder.resolve())


def _one_base(folders: Sequence[Path], configs: Sequence[PeftConfig]) -> str:
    """The base that all name; the last part decides, as some have it in a folder."""
    named = {
        str(folder): config.base_model.rstrip("/")
        for folder, config in zip(folders, configs, strict=True)
        if config.base_model
    }
    if not named:
        return ""
    first_folder, first = next(iter(named.items()))
    for folder, base in named.items():
        if base.rpartition("/")[2].lower() != first.rpartition("/")[2].lower():
            raise UserError(
                f"{folder} was trained on {base!r}, {first_folder} on {first!r}: adapters of "
                "different models cannot be fused; if these are the same weights, say so with "
                "--base NAME (base_model=...)"
            )
    return first


def _check_like(first_name: Path, first: Adapter, name: Path, adapter: Adapter) -> None:
    for module in sorted(first.keys() ^ adapter.keys()):
        has, lacks = (first_name, name) if module in first else (name, first_name)
        raise UserError(f"{lacks} lacks module {module}, which {has} adapts")
    for module, pair in adapter.items():
        other = first[module]
        assert isinstance(pair, LoraPair) and isinstance(other, LoraPair)
        shapes = [[*p.lora_a.shape[:-1], p.lora_b.shape[-1]] for p in (pair, other)]
        if shapes[0][1:] != shapes[1][1:]:
            raise UserError(
                f"{name}: {module} is [I, O] = {shapes[0][1:]}, in {first_name} {shapes[1][1:]}; "
                "they were made for different models"
            )
        ours, theirs = _layers(pair), _layers(other)
        for layer in sorted(ours ^ theirs):
            has, lacks = (first_name, name) if layer in theirs else (name, first_name)
            raise UserError(f"{lacks} lacks module {hf_name(module, layer)}, which {has} adapts")


def _layers(pair: LoraPair) -> set[int]:
    """Layers that are adapted: the others are zero in both factors."""
    used = jax.device_get((pair.lora_a != 0).any((1, 2)) | (pair.lora_b != 0).any((1, 2)))
    return {layer for layer, there in enumerate(used) if there}


def _pairs(adapter: Adapter) -> list[LoraPair]:
    return [update for update in adapter.values() if isinstance(update, LoraPair)]


def _agreed(configs: Sequence[PeftConfig]) -> dict[str, Any]:
    """What all carry alike. Without targets that all share, none of what selects modules."""
    same = {
        key: value
        for key, value in configs[0].carried.items()
        if all(_as_set(config.carried.get(key)) == _as_set(value) for config in configs)
    }
    selecting = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
    lists = [{k: _as_set(c.carried.get(k)) for k in selecting} for c in configs]
    if any(other != lists[0] for other in lists):
        same = {key: value for key, value in same.items() if key not in selecting}
    return {
        k: sorted(v) if k == "target_modules" and isinstance(v, list) else v
        for k, v in same.items()
    }


def _as_set(value: Any) -> Any:
    """PEFT writes lists of targets in any order."""
    return frozenset(value) if isinstance(value, list) else value

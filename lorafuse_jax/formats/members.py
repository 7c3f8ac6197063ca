"""Adapters that are to be fused: opened together, and checked against each other."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from lorafuse_jax.formats.dense import is_dense
from lorafuse_jax.formats.layers import hf_name
from lorafuse_jax.formats.member_stack import MemberStack, StoredStack
from lorafuse_jax.formats.peft_config import PeftConfig, read_peft_config
from lorafuse_jax.formats.peft_layers import Extent, PeftLayers, weights_path
from lorafuse_jax.formats.targets import SELECTING
from lorafuse_jax.formats.tensors import hash_of
from lorafuse_jax.types import Adapter, UserError


@dataclass(frozen=True)
class Members:
    """Adapters of one base model.

    Attributes:
        names: the folders, as given.
        stack: their updates, read some layers at a time; smaller ranks are padded with zeros.
        base_model: name or path of what they belong to.
        carried: what their configurations say of where they belong, as far as all agree.
        hashes: sha256 of each member's weights.
        full_rank: the updates are dense ones, written as pairs of full rank (``full_rank.py``).
    """

    names: tuple[str, ...]
    stack: MemberStack
    base_model: str
    carried: dict[str, Any]
    hashes: tuple[str, ...]
    full_rank: bool = False

    @cached_property
    def stacked(self) -> Adapter:
        """All of it in memory, leaves [S, L, ...]."""
        like = self.stack.like
        with jax.ensure_compile_time_eval():  # it is kept, and may first be asked for in a trace
            return {m: self.stack.read(m, 0, update[0].shape[1]) for m, update in like.items()}


def load_members(folders: Sequence[Path], *, base_model: str | None = None) -> Members:
    """Open PEFT adapters that belong to one base model.

    Their headers are compared first; then each goes through memory layer by layer, as what is
    zero, not finite or not exact in its dtype only the numbers show.

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
    files = [
        PeftLayers(config, weights_path(folder))
        for folder, config in zip(folders, configs, strict=True)
    ]
    stored = [file.shapes() for file in files]
    for folder, own in zip(folders, stored, strict=True):
        _check_shapes(folders[0], stored[0], folder, own)
    extents = [file.extents() for file in files]
    used = [_used(folder, own) for folder, own in zip(folders, extents, strict=True)]
    for folder, own in zip(folders, used, strict=True):
        _check_names(folders[0], used[0], folder, own)
        _check_shapes(folders[0], used[0], folder, own)
    return Members(
        names=tuple(map(str, folders)),
        stack=StoredStack(files, extents),
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
        str(folder): _without_cache(config.base_model)
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


def _used(folder: Path, extents: Mapping[str, Mapping[int, Extent]]) -> dict[str, list[int]]:
    """Name -> I, O of all that is adapted; UserError if all of it is zero."""
    shapes: dict[str, list[int]] = {}
    changed = False
    for module, by_layer in extents.items():
        for layer, extent in sorted(by_layer.items()):
            changed |= extent.used_a and extent.used_b
            if extent.used_a or extent.used_b:
                shapes[hf_name(module, layer)] = [extent.fan_in, extent.fan_out]
    if not changed:
        first = f", {next(iter(shapes))} and the rest" if shapes else ""
        raise UserError(
            f"{folder}: all of its updates are zero{first}; was it saved before it was trained?"
        )
    return shapes


def _check_names(
    first_name: Path, first: dict[str, list[int]], name: Path, shapes: dict[str, list[int]]
) -> None:
    if differing := sorted(first.keys() ^ shapes.keys()):
        module = differing[0]
        has, lacks = (first_name, name) if module in first else (name, first_name)
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        raise UserError(f"{lacks} lacks module {module}, which {has} adapts{more}")


def _check_shapes(
    first_name: Path, first: dict[str, list[int]], name: Path, shapes: dict[str, list[int]]
) -> None:
    """Of what both have."""
    for module, shape in shapes.items():
        if shape != first.get(module, shape):
            raise UserError(
                f"{name}: {module} is [I, O] = {shape}, in {first_name} {first[module]}; "
                "they were made for different models"
            )


def _without_cache(base: str) -> str:
    """``org/name`` for where the hub's cache keeps it, ``models--org--name/snapshots/REVISION``."""
    cached = re.search(r"(?:^|/)models--([^/]+)/snapshots/[^/]+/*$", base)
    return cached[1].replace("--", "/") if cached else base.rstrip("/")


def _agreed(configs: Sequence[PeftConfig]) -> dict[str, Any]:
    """What all carry alike. Without targets that all share, none of what selects modules."""
    every = [config.carried for config in configs]

    def same(key: str) -> bool:
        return all(_as_set(one.get(key)) == _as_set(every[0].get(key)) for one in every)

    agreed = {key: value for key, value in every[0].items() if same(key)}
    if not all(map(same, SELECTING)):
        agreed = {key: value for key, value in agreed.items() if key not in SELECTING}
    if isinstance(agreed.get("target_modules"), list):
        agreed["target_modules"] = sorted(agreed["target_modules"])
    return {"task_type": None} | agreed


def _as_set(value: Any) -> Any:
    """PEFT writes lists of targets in any order."""
    return frozenset(value) if isinstance(value, list) else value

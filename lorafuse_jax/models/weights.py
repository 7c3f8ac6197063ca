"""Safetensors to our parameter tree, tensor by tensor, with full coverage or not at all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.decoder import init_params
from lorafuse_jax.types import Params, UserError

UNUSED_SUFFIX = ".rotary_emb.inv_freq"
"""Old checkpoints store the rotary frequencies, which follow from the configuration."""

TIED_HEAD = "lm_head.weight"

FLOATS = ("F64", "F32", "F16", "BF16")
"""Stored types that hold a weight itself; integers and 8-bit floats would need their scales."""


@dataclass(frozen=True)
class WeightRule:
    """Where a tensor of a checkpoint goes.

    Attributes:
        hf: its name, with ``{layer}`` for the number of a layer.
        ours: slash-joined path of the parameter; layers are stacked on its first axis.
        transpose: checkpoints store ``[O, I]``, kernels are ``[I, O]``.
    """

    hf: str
    ours: str
    transpose: bool = False


@dataclass(frozen=True)
class _Place:
    ours: str
    layer: int | None
    transpose: bool


def load_params(
    folder: Path, config: DecoderConfig, rules: Sequence[WeightRule], dtype: Any
) -> Params:
    """The parameters in ``folder``, read into place one tensor at a time.

    Args:
        folder: with model.safetensors, or shards and their index.
        config: gives the tree to fill.
        rules: the family's.
        dtype: of the result.

    Raises:
        UserError: a file that is missing or damaged; a tensor that is missing, unknown or of the
            wrong shape or type. Every tensor is used once and every parameter filled once.
    """
    spec = {
        "/".join(str(entry.key) for entry in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            jax.eval_shape(partial(init_params, config), jax.random.key(0))
        )
    }
    expected = _expected(config, rules, spec)
    arrays = {ours: np.empty(shape, dtype) for ours, shape in spec.items()}
    found: set[str] = set()
    head = None
    for file in weight_files(folder):
        with _open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (a safetensors handle is no dict)
                if name.endswith(UNUSED_SUFFIX):
                    continue
                if name == TIED_HEAD and config.tie_embeddings:
                    head = _read(tensors, name, spec["embed_tokens/embedding"], file)
                    continue
                if name not in expected or name in found:
                    kind = "is there twice" if name in found else "is not a part of this model"
                    raise UserError(f"{file}: tensor {name} {kind}")
                found.add(name)
                _fill(arrays, expected[name], tensors, name, file)
    missing = sorted(expected.keys() - found)
    if missing:
        raise UserError(f"{folder} lacks {len(missing)} tensors, the first is {missing[0]}")
    _check_tied(head, arrays["embed_tokens/embedding"], folder)
    return _nest(arrays)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up a checkpoint.

    Raises:
        UserError: there are none, or one that the index names is missing.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index} is damaged ({error}); download it again") from None
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise UserError(f"{index} names {missing[0]}, which is not there; download it again")
        return [folder / name for name in names]
    if single.exists():
        return [single]
    pickles = sorted(file.name for file in folder.glob("*.bin"))
    advice = (
        f"; {pickles[0]} is a pickle, which is never loaded: save the model again with "
        "safe_serialization=True"
        if pickles
        else ""
    )
    raise UserError(f"{folder} has no model.safetensors{advice}")


def _open(file: Path):
    try:
        return safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged or cut short ({error}); download it again") from None


def _expected(config, rules, spec) -> dict[str, _Place]:
    expected = {}
    for rule in rules:
        if rule.ours not in spec:
            continue
        if "{layer}" in rule.hf:
            for layer in range(config.num_layers):
                name = rule.hf.format(layer=layer)
                expected[name] = _Place(rule.ours, layer, rule.transpose)
        else:
            expected[rule.hf] = _Place(rule.ours, None, rule.transpose)
    filled = [rule.ours for rule in rules if rule.ours in spec]
    if sorted(filled) != sorted(spec):
        raise ValueError(f"rules fill {sorted(filled)}, the model has {sorted(spec)}")
    return expected


def _fill(arrays: dict[str, np.ndarray], place: _Place, tensors, name: str, file: Path) -> None:
    target = arrays[place.ours] if place.layer is None else arrays[place.ours][place.layer]
    if place.transpose:
        target = target.T
    target[...] = _read(tensors, name, target.shape, file)


def _read(tensors, name: str, shape: tuple[int, ...], file: Path) -> np.ndarray:
    stored = tensors.get_slice(name)
    if tuple(stored.get_shape()) != shape:
        raise UserError(
            f"{file}: {name} has shape {stored.get_shape()}, config.json says {list(shape)}"
        )
    if stored.get_dtype() not in FLOATS:
        raise UserError(
            f"{file}: {name} is stored as {stored.get_dtype()}; quantised weights are not read, "
            f"only {', '.join(FLOATS)}"
        )
    return tensors.get_tensor(name)


def _check_tied(head: np.ndarray | None, embedding: np.ndarray, folder: Path) -> None:
    if head is not None and not np.array_equal(head.astype(embedding.dtype), embedding):
        raise UserError(
            f"{folder}: config.json ties the head to the embedding, but lm_head.weight differs "
            "from it; set tie_word_embeddings to false to use it"
        )


def _nest(flat: dict[str, np.ndarray]) -> Params:
    nested: Params = {}
    for path in list(flat):
        *parents, last = path.split("/")
        node = nested
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = jax.numpy.asarray(flat.pop(path))
    return nested

"""Hugging Face checkpoints with an adapter added to their weights, tensor by tensor.

A checkpoint is ``model.safetensors``, or shards with ``model.safetensors.index.json``. torch's
linear layers keep their weight [O, I], the transpose of our kernels; GPT-2's Conv1D keeps [I, O].
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Array
from safetensors.numpy import save_file

from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats.folder import read_json
from lorafuse_jax.formats.layers import hf_name
from lorafuse_jax.formats.tensors import files_of, open_tensors
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair, UserError

MODEL_FILE = "model.safetensors"
CONV1D_FAMILIES = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Families of transformers whose projections are Conv1D, with weights [I, O]."""

_TIED = ("lm_head", "embed_tokens", "wte")


@dataclass(frozen=True)
class Target:
    """What is added to one tensor of a checkpoint.

    Attributes:
        module: path in the adapter.
        layer: its layer.
        transposed: the tensor is [O, I].
    """

    module: str
    layer: int
    transposed: bool


def check_base(base: Path) -> dict[str, Path]:
    """Tensor name -> file of a checkpoint.

    Raises:
        UserError: it is no folder with safetensors, or one of them is missing or damaged.
    """
    if not base.is_dir():
        raise UserError(f"{base} is not a folder; expected a Hugging Face checkpoint")
    if not list(base.glob(f"{MODEL_FILE}*")):
        old = sorted(file.name for file in base.glob("*.bin"))
        reason = (
            f"; {old[0]} is a pickle and is never loaded: save the model again with "
            "save_pretrained(folder, safe_serialization=True)"
            if old
            else ""
        )
        raise UserError(f"{base} has no {MODEL_FILE}{reason}")
    return files_of(base / MODEL_FILE)


def targets_of(
    base: Path, files: Mapping[str, Path], adapter: Adapter, *, fan_in_fan_out: bool
) -> dict[str, Target]:
    """Tensor name -> what is added to it, for every layer that the adapter changes.

    Names are matched whole, or without the first part where checkpoints leave it out (``h.0`` for
    ``transformer.h.0``) or adapters do.

    Args:
        base: folder of the checkpoint.
        files: of ``check_base``.
        adapter: leaves [L, ...].
        fan_in_fan_out: as the adapter's configuration has it.

    Raises:
        UserError: a module that is not there, of another shape, or tied to another tensor.
    """
    config = read_json(base / "config.json")
    conv1d = config.get("model_type") in CONV1D_FAMILIES
    if fan_in_fan_out and not conv1d:
        raise UserError(
            f"the adapter says fan_in_fan_out, but {base} is a {config.get('model_type')} model, "
            "whose layers are not Conv1D; is this its base model?"
        )
    targets: dict[str, Target] = {}
    for module, update in adapter.items():
        for layer in _changed_layers(update):
            name = hf_name(module, layer)
            tensor = _find(f"{name}.weight", files, base)
            linear = not conv1d or module == "lm_head"
            _check_tied(name, config, files)
            _check_shape(tensor, files[tensor], update, linear, name)
            targets[tensor] = Target(module, layer, transposed=linear)
    if not targets:
        raise UserError("the adapter changes nothing: all of its updates are zero")
    return targets


def write_merged(
    out: Path, files: Mapping[str, Path], targets: Mapping[str, Target], adapter: Adapter
) -> Iterator[str]:
    """Write every shard with the deltas added; yields the name of each when it is written.

    One shard is in memory at a time. The sum is made in float32 and rounded once to the dtype of
    the base.

    Args:
        out: an existing folder.
        files: of ``check_base``.
        targets: of ``targets_of``.
        adapter: leaves [L, ...].
    """
    for shard in sorted(set(files.values())):
        tensors: dict[str, np.ndarray] = {}
        with open_tensors(shard, framework="numpy") as file:
            metadata = file.metadata()
            for name in file.keys():  # noqa: SIM118  (not a dict)
                tensor = file.get_tensor(name)
                if name in targets:
                    tensor = _added(tensor, targets[name], adapter)
                tensors[name] = tensor
        save_file(tensors, str(out / shard.name), metadata=metadata or {"format": "pt"})
        yield shard.name


def _added(tensor: np.ndarray, target: Target, adapter: Adapter) -> np.ndarray:
    update = adapter[target.module]
    alone = type(update)(*(leaf[target.layer : target.layer + 1] for leaf in update))
    wide = {"": _in_single(alone)}
    dense = to_delta(wide)[""]
    assert isinstance(dense, DenseDelta)
    delta = np.asarray(dense.delta[0])
    wider = tensor.astype(np.promote_types(np.float32, _plain(tensor.dtype)))
    return (wider + (delta.T if target.transposed else delta)).astype(tensor.dtype)


def _in_single(update: Any) -> Any:
    return type(update)(*(leaf.astype(np.float32) for leaf in update))


def _plain(dtype: np.dtype) -> np.dtype:
    """A dtype that NumPy itself can promote."""
    return np.dtype(np.float32) if dtype == ml_dtypes.bfloat16 else dtype


def _changed_layers(update: LoraPair | DenseDelta) -> list[int]:
    """Layers that are not all zero."""
    there: Array = (update[0] != 0).any((1, 2)) & (update[-1] != 0).any((1, 2))
    return [int(layer) for layer in np.flatnonzero(np.asarray(there))]


def _find(tensor: str, files: Mapping[str, Path], base: Path) -> str:
    """The name that the checkpoint has for it."""
    if tensor in files:
        return tensor
    shorter = tensor.partition(".")[2]
    if shorter in files:
        return shorter
    longer = [name for name in files if name.partition(".")[2] == tensor]
    if len(longer) == 1:
        return longer[0]
    if longer:
        raise UserError(f"{base}: {tensor} could be {' or '.join(sorted(longer))}")
    near = get_close_matches(tensor, files, n=3)
    raise UserError(
        f"{base} has no tensor {tensor}" + (f"; near: {', '.join(near)}" if near else "")
    )


def _check_tied(name: str, config: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    last = name.rpartition(".")[2]
    if last in _TIED and config.get("tie_word_embeddings"):
        raise UserError(
            f"{name} shares its weights with another layer of this model (tie_word_embeddings): "
            "a merged checkpoint cannot hold a change of one of them; leave it out of the adapter"
        )


def _check_shape(
    tensor: str, file: Path, update: LoraPair | DenseDelta, linear: bool, name: str
) -> None:
    fans = [update[0].shape[1], update[-1].shape[2]]
    with open_tensors(file, framework="numpy") as handle:
        shape = list(handle.get_slice(tensor).get_shape())
    if shape != (fans[::-1] if linear else fans):
        raise UserError(
            f"{name}: the adapter is [I, O] = {fans}, {tensor} in {file} is {shape}; it was made "
            "for another model"
        )

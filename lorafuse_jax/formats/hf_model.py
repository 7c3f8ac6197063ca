"""Hugging Face checkpoints with deltas added to their weights, tensor by tensor.

A checkpoint is ``model.safetensors``, or shards with ``model.safetensors.index.json``. torch's
linear layers keep their weight [O, I], the transpose of our kernels; GPT-2's Conv1D and embeddings
keep [I, O].

A merged checkpoint differs from its base in the values of some tensors alone. So files are copied,
and the values changed where they lie: every other byte stays as it was.
"""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os import SEEK_CUR
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lorafuse_jax.formats.deltas import Delta
from lorafuse_jax.formats.folder import read_json
from lorafuse_jax.formats.stored import DTYPES, Stored, find_tensors, read_rows
from lorafuse_jax.formats.targets import EMBEDDING_NAMES, is_embedding
from lorafuse_jax.types import HEAD, UserError

MODEL_FILE = "model.safetensors"
CONV1D_FAMILIES = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Families of transformers with projections that are Conv1D, whose weights are [I, O] ..."""
CONV1D_NAMES = ("c_attn", "q_attn", "c_proj", "c_fc")
"""... and which these are. Their other layers, such as the head, are linear."""
ENTRIES_AT_ONCE = 1 << 22

_TIED = (HEAD, *EMBEDDING_NAMES)


@dataclass(frozen=True)
class Target:
    """What is added to one tensor of a checkpoint; ``transposed`` if it is kept [O, I]."""

    delta: Delta
    transposed: bool


def read_checkpoint(base: Path) -> dict[str, Stored]:
    """The tensors of a checkpoint by name.

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
    return find_tensors(base / MODEL_FILE)


def targets_of(
    base: Path, tensors: Mapping[str, Stored], deltas: Sequence[Delta], *, fan_in_fan_out: bool
) -> dict[str, Target]:
    """Tensor name -> what is added to it.

    Names are matched whole, or without the first part where checkpoints leave it out (``h.0`` for
    ``transformer.h.0``) or adapters do.

    Args:
        base: folder of the checkpoint.
        tensors: of ``read_checkpoint``.
        deltas: of ``deltas_of``.
        fan_in_fan_out: as the adapter's configuration has it.

    Raises:
        UserError: a module that is not there, twice, of another shape, or quantised.
    """
    config = read_json(base / "config.json")
    conv1d = _has_conv1d(config)
    if fan_in_fan_out and not conv1d:
        raise UserError(
            f"the adapter says fan_in_fan_out, but {base} is a {config.get('model_type')} model, "
            "whose layers are not Conv1D; is this its base model?"
        )
    targets: dict[str, Target] = {}
    for delta in deltas:
        last = delta.name.rpartition(".")[2]
        tensor = _find(f"{delta.name}.weight", tensors, base)
        if tensor in targets:
            raise UserError(
                f"{delta.name} and {targets[tensor].delta.name} would both be added to {tensor} "
                f"of {base}; is this the adapter's base model?"
            )
        transposed = not (is_embedding(delta.name) or (conv1d and last in CONV1D_NAMES))
        _check_fits(tensor, tensors[tensor], delta, transposed)
        targets[tensor] = Target(delta, transposed)
    return targets


def changes_tied(base: Path, tensors: Mapping[str, Stored], deltas: Sequence[Delta]) -> bool:
    """Whether embedding and output head are one, and the deltas change one of them."""
    config = read_json(base / "config.json")
    return any(one.name.rpartition(".")[2] in _TIED for one in deltas) and _is_tied(config, tensors)


def write_merged(
    out: Path, tensors: Mapping[str, Stored], targets: Mapping[str, Target]
) -> Iterator[tuple[str, float]]:
    """Copy all files into ``out``, and add the deltas there; one delta is in memory at a time.

    Sums are made in float32 at least and rounded once to the base's dtype.

    Args:
        out: an existing folder.
        tensors: of ``read_checkpoint``; those of files in ``out`` are changed where they are.
        targets: of ``targets_of``.

    Yields:
        Each tensor that was changed, and the squared norm of what was added.

    Raises:
        UserError: a delta is not finite, or a sum is beyond the base's dtype.
    """
    for source in sorted({stored.file for stored in tensors.values()}):
        if source.parent != out:
            shutil.copyfile(source, out / source.name)
        with (out / source.name).open("r+b") as file:
            for name, stored in tensors.items():
                if stored.file == source and name in targets:
                    yield name, _add_in_place(file, stored, targets[name], name)


def _add_in_place(file: BinaryIO, stored: Stored, target: Target, name: str) -> float:
    """Add a delta in blocks of rows; its squared norm."""
    delta = target.delta.make()
    delta = delta.T if target.transposed else delta
    height = max(1, ENTRIES_AT_ONCE // stored.shape[1])
    squared = 0.0
    for first in range(0, stored.shape[0], height):
        block = np.ascontiguousarray(delta[first : first + height])
        before = read_rows(file, stored, first, len(block))
        with np.errstate(over="ignore"):
            after = (before + block).astype(before.dtype)  # summed in float32, or in float64
        if not np.isfinite(after).all():
            raise UserError(
                f"{name} is not finite with {target.delta.name} added to it: one of them is not, "
                f"or the sum is too large for the base's {before.dtype}"
            )
        file.seek(-before.nbytes, SEEK_CUR)
        file.write(after.tobytes())
        squared += float(np.vdot(block, block))
    return squared


def _has_conv1d(config: Mapping[str, Any]) -> bool:
    """Whether the model, or one that it is made of, is of such a family."""
    parts = [part for part in config.values() if isinstance(part, dict)]
    return config.get("model_type") in CONV1D_FAMILIES or any(map(_has_conv1d, parts))


def _find(tensor: str, tensors: Mapping[str, Stored], base: Path) -> str:
    """The name that the checkpoint has for it."""
    if tensor in tensors:
        return tensor
    shorter = tensor.partition(".")[2]
    if shorter in tensors:
        return shorter
    longer = [name for name in tensors if name.partition(".")[2] == tensor]
    if len(longer) == 1:
        return longer[0]
    if longer:
        raise UserError(f"{base}: {tensor} could be {' or '.join(sorted(longer))}")
    near = get_close_matches(tensor, tensors, n=3)
    raise UserError(
        f"{base} has no tensor {tensor}" + (f"; near: {', '.join(near)}" if near else "")
    )


def _is_tied(config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> bool:
    """As the configuration says; where it leaves that to the family's default, as weights show."""
    for part in (config, config.get("text_config") or {}):
        if part.get("tie_word_embeddings") is not None:
            return part["tie_word_embeddings"]
    head = tensors.get("lm_head.weight")
    if head is None:
        return True
    embeddings = [s for n, s in tensors.items() if is_embedding(n.removesuffix(".weight"))]
    return any(same_values(head, stored) for stored in embeddings)


def same_values(one: Stored, other: Stored) -> bool:
    """Whether two tensors are alike in dtype, shape and every entry."""
    if (one.dtype, one.shape) != (other.dtype, other.shape) or one.dtype not in DTYPES:
        return False
    with one.file.open("rb") as first, other.file.open("rb") as second:
        height = max(1, ENTRIES_AT_ONCE // math.prod(one.shape[1:]))
        starts = range(0, one.shape[0], height)
        parts = ((start, min(height, one.shape[0] - start)) for start in starts)
        return all(
            np.array_equal(read_rows(first, one, *part), read_rows(second, other, *part))
            for part in parts
        )


def _check_fits(tensor: str, stored: Stored, delta: Delta, transposed: bool) -> None:
    if stored.dtype not in DTYPES:
        raise UserError(
            f"{tensor} in {stored.file} is stored as {stored.dtype}: nothing can be added to "
            "quantised weights; take the folder of the original model"
        )
    if stored.shape != (delta.shape[::-1] if transposed else delta.shape):
        raise UserError(
            f"{delta.name}: the adapter is [I, O] = {list(delta.shape)}, {tensor} in {stored.file} "
            f"is {list(stored.shape)}; it was made for another model"
        )

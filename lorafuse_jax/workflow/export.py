"""``lorafuse export``: a Hugging Face checkpoint with an adapter added to its weights."""

import shutil
from pathlib import Path

from lorafuse_jax.formats import read_peft_config, read_provenance
from lorafuse_jax.formats.deltas import deltas_of
from lorafuse_jax.formats.dense import is_dense
from lorafuse_jax.formats.folder import (
    check_free,
    check_room,
    disk_full_is_said,
    new_folder,
    write_json,
)
from lorafuse_jax.formats.hf_model import (
    MODEL_FILE,
    changes_tied,
    read_checkpoint,
    targets_of,
    write_merged,
)
from lorafuse_jax.formats.untied import (
    HEAD_TENSOR,
    describe_untied,
    table_of_both,
    write_head,
)
from lorafuse_jax.run_folder import versions
from lorafuse_jax.workflow.progress import console, meter

ABOUT_FILE = "lorafuse.json"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx")


def export(base: Path, adapter_folder: Path, out: Path) -> Path:
    """Write ``base`` with the adapter added, whole or not at all, in the memory of one tensor.

    Everything else of the base (configuration, tokenizer) is copied. ``lorafuse.json`` says what
    was added. Where embedding and output head are one and the adapter changes one of them, the
    result has both.

    Args:
        base: folder of a checkpoint in safetensors.
        adapter_folder: a PEFT adapter, or the dense one that ``lorafuse fuse`` writes.
        out: the folder to write.

    Raises:
        UserError: the adapter does not fit, ``out`` is taken, or the disk has no room for it;
            before anything is written.
    """
    check_free(out)
    tensors = read_checkpoint(base)
    deltas = deltas_of(adapter_folder)
    unties = changes_tied(base, tensors, deltas)
    both = {HEAD_TENSOR: table_of_both(base, tensors, deltas)} if unties else {}
    fan_in_fan_out = _is_conv1d(adapter_folder)
    targets = targets_of(base, {**both, **tensors}, deltas, fan_in_fan_out=fan_in_fan_out)
    check_room(out, sum(file.stat().st_size for file in {at.file for at in tensors.values()}))
    squared = 0.0
    with disk_full_is_said(out), new_folder(out) as whole:
        if unties and HEAD_TENSOR not in tensors:
            tensors = {**tensors, **write_head(whole, both[HEAD_TENSOR])}
        with meter("exporting", len(targets)) as progress:
            for name, added in write_merged(whole, tensors, targets):
                squared += added
                progress.advance(1, name)
        copy_rest(base, whole)
        if unties:
            describe_untied(whole)
        about = {
            "base": str(base),
            "adapter": adapter_folder.name,
            "provenance": read_provenance(adapter_folder),
            "versions": versions(),
        }
        write_json(whole / ABOUT_FILE, about)
    if unties:
        console.print("embedding and output head, which were one, are two in the result")
    console.print(
        f"{len(targets)} of {len(tensors)} tensors changed, by a norm of {squared**0.5:.4g} "
        f"together · {out}"
    )
    return out


def _is_conv1d(adapter_folder: Path) -> bool:
    if is_dense(adapter_folder):
        return bool(read_provenance(adapter_folder).get("carried", {}).get("fan_in_fan_out"))
    return bool(read_peft_config(adapter_folder).carried.get("fan_in_fan_out"))


def copy_rest(base: Path, whole: Path) -> None:
    """Copy all that is small and no copy of the weights: configuration, tokenizer, licence.

    Of the indices that of our shards alone: others tell of files that are not copied.
    """
    index = "" if (whole / MODEL_FILE).exists() else f"{MODEL_FILE}.index.json"
    for file in sorted(base.iterdir()):
        stale = file.name.endswith(".index.json") and file.name != index
        if file.is_file() and file.suffix not in WEIGHTS and not stale and file.name != ABOUT_FILE:
            shutil.copyfile(file, whole / file.name)

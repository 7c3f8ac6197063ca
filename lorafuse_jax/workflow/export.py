"""``lorafuse export``: a Hugging Face checkpoint with an adapter added to its weights."""

import shutil
from pathlib import Path

from lorafuse_jax.adapter import norm
from lorafuse_jax.formats import load_adapter, read_peft_config, read_provenance
from lorafuse_jax.formats.dense import is_dense
from lorafuse_jax.formats.folder import check_free, new_folder, write_json
from lorafuse_jax.formats.hf_model import MODEL_FILE, check_base, targets_of, write_merged
from lorafuse_jax.run_folder import versions
from lorafuse_jax.workflow.progress import console, meter

ABOUT_FILE = "lorafuse.json"


def export(base: Path, adapter_folder: Path, out: Path) -> Path:
    """Write ``base`` with the adapter added, whole or not at all; never the whole model in memory.

    Everything else of the base (configuration, tokenizer) is copied. ``lorafuse.json`` says what
    was added.

    Args:
        base: folder of a checkpoint in safetensors.
        adapter_folder: a PEFT adapter, or the dense one that ``lorafuse fuse`` writes.
        out: the folder to write.

    Raises:
        UserError: the adapter does not fit, or ``out`` is taken; before anything is written.
    """
    check_free(out)
    files = check_base(base)
    adapter = load_adapter(adapter_folder)
    targets = targets_of(base, files, adapter, fan_in_fan_out=_is_conv1d(adapter_folder))
    shards = len(set(files.values()))
    with new_folder(out) as whole:
        with meter("exporting", shards) as progress:
            for shard in write_merged(whole, files, targets, adapter):
                progress.advance(1, shard)
        _copy_rest(base, whole, {file.name for file in files.values()})
        about = {
            "base": str(base),
            "adapter": adapter_folder.name,
            "provenance": read_provenance(adapter_folder),
            "versions": versions(),
        }
        write_json(whole / ABOUT_FILE, about)
    console.print(
        f"{len(targets)} of {len(files)} tensors changed, by a norm of {float(norm(adapter)):.4g} "
        f"together · {out}"
    )
    return out


def _is_conv1d(adapter_folder: Path) -> bool:
    if is_dense(adapter_folder):
        return bool(read_provenance(adapter_folder).get("carried", {}).get("fan_in_fan_out"))
    return bool(read_peft_config(adapter_folder).carried.get("fan_in_fan_out"))


def _copy_rest(base: Path, whole: Path, written: set[str]) -> None:
    """All that is small and no copy of the weights: configuration, tokenizer, licence."""
    weights = {*written, ABOUT_FILE}
    for file in sorted(base.iterdir()):
        copies = file.suffix in (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf")
        if file.is_file() and not copies and file.name not in weights:
            shutil.copyfile(file, whole / file.name)
    assert (whole / "config.json").exists()
    if len(written) == 1:
        (whole / f"{MODEL_FILE}.index.json").unlink(missing_ok=True)

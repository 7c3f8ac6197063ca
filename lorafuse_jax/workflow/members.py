"""The adapters that a command is about: the seeds of a run, folders, or names on the hub."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from lorafuse_jax.adapter import stack
from lorafuse_jax.dora import dora_deltas
from lorafuse_jax.formats import (
    Members,
    is_adapter,
    load_adapter,
    load_members,
    read_peft_config,
    read_provenance,
)
from lorafuse_jax.formats.dense import DELTA_FILE, is_dense, load_dense
from lorafuse_jax.formats.dora import is_dora, load_dora
from lorafuse_jax.formats.member_stack import HeldStack
from lorafuse_jax.formats.peft_layers import weights_path
from lorafuse_jax.formats.tensors import hash_of
from lorafuse_jax.full_rank import as_pairs
from lorafuse_jax.lora import check_fits
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_files, for_model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import Adapter, LoraPair, UserError
from lorafuse_jax.workflow.inputs import load_any_model
from lorafuse_jax.workflow.method_full import is_whole_model
from lorafuse_jax.workflow.placement import ONE_DEVICE, Placement
from lorafuse_jax.workflow.progress import console


def is_run(source: str) -> bool:
    """Whether the source is a run folder rather than one adapter."""
    return (Path(source) / "config.json").exists() and not is_adapter(Path(source))


def members_of(sources: Sequence[str], base_model: str | None = None) -> Members:
    """The seeds of a run, or adapters by folder or hub name.

    Raises:
        UserError: a source is neither, or the adapters do not belong together.
    """
    if len(sources) == 1 and is_run(sources[0]):
        return members_of_run(RunFolder(Path(sources[0])))
    if len(sources) == 1:
        raise UserError(
            f"{sources[0]} is no run folder, and one adapter alone has nothing to be fused with; "
            "name a run that lorafuse train wrote, or two adapters or more"
        )
    return load_members([_folder_of(source) for source in sources], base_model=base_model)


def members_of_run(run: RunFolder) -> Members:
    """The seeds of a run.

    Raises:
        UserError: a seed's adapter is missing.
    """
    config = run.config()
    paths = [run.adapter_path(seed) for seed in members_trained(run)]
    if any(map(is_whole_model, paths)):
        raise UserError(
            f"{run.path} was trained with --method full: its seeds are whole models, which "
            "lorafuse evaluate compares and no operator fuses; those of --method dense can be fused"
        )
    if any(is_dora(path) or is_dense(path) for path in paths):
        return _full_rank_members(run, paths)
    return load_members(paths, base_model=config["model"])


def members_trained(run: RunFolder) -> list[int]:
    """The seeds of a run that trained to the end; says which were frozen and are left out.

    Raises:
        UserError: a seed's adapter is missing.
    """
    trained = run.trained_seeds()
    for seed in run.config()["seeds"]:
        if seed not in trained:
            console.print(
                f"seed {seed} is left out: it was frozen while training, as its loss was not "
                f"finite; its last finite adapter is {run.frozen_path(seed)}"
            )
    return trained


def base_of(run: RunFolder, placement: Placement = ONE_DEVICE) -> Model:
    """The model that a run was trained on.

    Raises:
        UserError: it is not there, or not what it was.
    """
    config = run.config()
    model = load_any_model(config["model"], config.get("quantization"), placement)
    if model.fingerprint != config["model_fingerprint"]:
        raise UserError(f"{run.path} was trained on another model than {config['model']} now is")
    return model


def load_update(folder: Path, model: Model) -> Adapter:
    """What an adapter of any kind adds to a model, with the decoder's module paths.

    DoRA's depends on the model's weights; it is dense.

    Raises:
        UserError: nothing readable is there, or it does not fit.
    """
    if not is_dora(folder):
        adapter = for_model(load_adapter(folder), model)
        check_fits(adapter, model.params)
        return adapter
    adapter = for_model(load_dora(folder), model)
    check_fits({m: LoraPair(own.lora_a, own.lora_b) for m, own in adapter.items()}, model.params)
    return dora_deltas(adapter, model.params)


def _full_rank_members(run: RunFolder, paths: list[Path]) -> Members:
    """Seeds whose updates are dense: trained as whole kernels, or with DoRA."""
    if is_dense(paths[0]):
        adapters = [load_dense(path) for path in paths]
        carried = read_provenance(paths[0])["carried"]
        hashes = [hash_of(path / DELTA_FILE) for path in paths]
    else:
        model = base_of(run)
        adapters = [for_files(load_update(path, model), model) for path in paths]
        carried = read_peft_config(paths[0], dora=True).carried
        hashes = [hash_of(weights_path(path)) for path in paths]
    return Members(
        names=tuple(map(str, paths)),
        stack=HeldStack(stack([as_pairs(adapter) for adapter in adapters])),
        base_model=run.config()["model"],
        carried=carried,
        hashes=tuple(hashes),
        full_rank=True,
    )


def best_seed(run: RunFolder) -> int:
    """The seed with the lowest held-out loss after the last step: chosen on validation alone.

    Of those that trained to the end.
    """
    trained = run.trained_seeds()
    last = {
        line["seed"]: line["heldout_loss"]
        for line in run.metrics()
        if "heldout_loss" in line and line.get("seed") in trained
    }
    if not last:
        raise UserError(f"{run.metrics_path} has no held-out loss; was the training finished?")
    return min(last, key=lambda seed: last[seed])


def _folder_of(source: str) -> Path:
    """A folder, or the download of what has that name on the hub."""
    path = Path(source)
    if path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        return path
    try:
        return Path(
            snapshot_download(source, allow_patterns=["adapter_*.json", "adapter_*.safetensors"])
        )
    except Exception as error:  # the hub has many: no network, no such name, no permission
        raise UserError(
            f"{source} is no folder here, and the hub does not give it ({error})"
        ) from error

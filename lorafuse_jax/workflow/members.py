"""The adapters that a command is about: the seeds of a run, folders, or names on the hub."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from lorafuse_jax.formats import Members, is_adapter, load_members
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
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

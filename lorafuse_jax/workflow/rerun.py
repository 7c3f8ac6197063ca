"""The commands that a run was made by, rebuilt from what it wrote down, and what it was made of."""

import shlex
from collections.abc import Sequence
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from lorafuse_jax.assets import ASSETS, asset_path
from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.formats import read_provenance
from lorafuse_jax.formats.dense import DELTA_FILE, is_dense
from lorafuse_jax.formats.hf_model import MODEL_FILE
from lorafuse_jax.formats.peft_layers import weights_path
from lorafuse_jax.formats.tensors import hash_of
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.report.sections.rerun import Rerun
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.benchmarks import OWN, is_own
from lorafuse_jax.workflow.method_full import is_whole_model
from lorafuse_jax.workflow.remembered import remembered
from lorafuse_jax.workflow.train_config import TrainConfig


def rerun_of(run: RunFolder, archives: Sequence[Archive]) -> Rerun:
    """What the report says of running it again."""
    config = run.config()
    hashes = _hashes(run)
    commands, notes = [train_command(config, run.path)], []
    for name in run.fused_names():
        provenance = read_provenance(run.fused_path(name))
        commands.append(command := fuse_command(provenance, name, run.path))
        if command.startswith("#"):
            commands.pop()
            notes.append(command.removeprefix("# "))
        notes += _stale(name, provenance, hashes)
    commands += [evaluate_command(archive, run.path) for archive in archives]
    commands.append(f"lorafuse report {_quoted(run.path)}")
    asked = [
        (f"questions of {archive.asked()['label']}", _digest(archive.questions_path))
        for archive in archives
    ]
    return Rerun(
        commands=commands,
        facts=[
            ("seeds", " ".join(map(str, config["seeds"]))),
            ("model", config["model"]),
            ("sha256 of the model", config["model_fingerprint"]),
            ("data", config["data"]),
            ("sha256 of the data", config["data_fingerprint"]),
            *((f"sha256 of the {name}", digest) for name, digest in asked),
        ],
        versions=config["versions"] | _machine(run),
        hashes=hashes,
        notes=notes,
    )


def train_command(config: dict[str, Any], out: Path) -> str:
    """``lorafuse train`` with all that differs from its defaults."""
    words = ["lorafuse", "train"]
    for field in fields(TrainConfig):
        value = config.get(field.name, field.default)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        # Seeds are said even where they are the default: they are what the run is about.
        if value == default and field.name != "seeds":
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        if field.name in ("model", "data"):
            words.append(_asset_name(value))
        elif value is not True:
            words += map(str, value if isinstance(value, list) else [value])
    return _line([*words, "--out", str(out)])


def fuse_command(provenance: dict[str, Any], name: str, run: Path) -> str:
    """``lorafuse fuse`` with the settings that differ from the operator's defaults.

    A comment where no such command made it.
    """
    try:
        op = get_operator(provenance["operator"])
    except (KeyError, UserError):
        return f"# fused/{name} was not made by lorafuse fuse."
    words = ["lorafuse", "fuse", str(run), "--operator", op.name]
    usual = op.resolve({})
    settings = provenance["hyperparameters"]
    changed = [f"{key}={_shown(value)}" for key, value in settings.items() if value != usual[key]]
    words += ["--set", *changed] if changed else []
    if provenance["weights"]:
        words += ["--weights", *map(str, provenance["weights"])]
    if provenance["rank"] is not None:
        words += ["--rank", str(provenance["rank"])]
    if provenance["key_seed"]:
        words += ["--key", str(provenance["key_seed"])]
    if name != op.name.replace(":", "-"):
        words += ["--out", str(run / "fused" / name)]
    return _line(words)


def evaluate_command(archive: Archive, run: Path) -> str:
    """``lorafuse evaluate`` of so many questions of one benchmark."""
    asked = archive.asked()
    words = ["lorafuse", "evaluate", str(run)]
    words += ["--tasks", asked["asked_as"]] if asked["asked_as"] else []
    if is_own(asked):
        words += ["--checker", asked["benchmark"].removeprefix(OWN)]
    models = {one.model for one in archive.answers().values() if one.kind == "subset"}
    if beside := asked.get("beside"):
        words += ["--beside", *(f"{name}={folder}" for name, folder in sorted(beside.items()))]
    if any(one.kind == "ensemble" for one in archive.answers().values()):
        words.append("--ensemble")
    if operators := sorted({model.rpartition("(")[0] for model in models}):
        words += ["--subsets", *operators]
    return _line([*words, "--limit", str(len(archive.questions()))])


def _asset_name(path: str) -> str:
    """The name of what ``lorafuse fetch`` got, which holds on any machine; else the path."""
    name = Path(path).name
    return name if name in ASSETS and Path(path) == asset_path(name) else path


def _hashes(run: RunFolder) -> dict[str, str]:
    folders = {f"seed-{seed}": run.adapter_path(seed) for seed in run.trained_seeds()}
    folders |= {name: run.fused_path(name) for name in run.fused_names()}
    find = lambda: {name: hash_of(_weights(folder)) for name, folder in folders.items()}  # noqa: E731
    return remembered(run.path / "hashes.json", folders, find)


def _weights(folder: Path) -> Path:
    if is_dense(folder):
        return folder / DELTA_FILE
    return folder / MODEL_FILE if is_whole_model(folder) else weights_path(folder)


def _stale(name: str, provenance: dict[str, Any], hashes: dict[str, str]) -> list[str]:
    """Whether a fused adapter is of the seeds that are here now."""
    members = provenance.get("members", [])
    other = [one["name"] for one in members if hashes.get(one["name"]) != one["sha256"]]
    if not other:
        return []
    return [f"{name} was fused from another {other[0]} than the one that is here now."]


def _machine(run: RunFolder) -> dict[str, str]:
    """Of the last training."""
    trained = [line["machine"] for line in run.costs() if line["verb"] == "train"]
    return dict(trained[-1]) if trained else {}


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _shown(value: Any) -> str:
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _line(words: Sequence[str]) -> str:
    return shlex.join(words)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))

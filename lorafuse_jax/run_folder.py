"""The run folder: where everything of one experiment lies, and which parts are finished.

    RUN/
      config.json          what was asked for, resolved, with model and data fingerprints, versions
      contamination.json   what the held-out splits have in common with the training data
      metrics.jsonl        a line a step and seed
      cost.jsonl           seconds and memory of each piece of work
      checkpoints/         training state (orbax)
      adapters/seed-11/    each seed's adapter, PEFT format; by method, deltas or a checkpoint
      frozen/seed-42/      instead, where a loss was not finite: the seed as it was before
      fused/NAME/          each fused adapter, with operator, hyper-parameters and member hashes
      evaluations/TASK/    every question, every model's answer, and what it is worth
      report.html table.md

A finished part is never redone; a part is finished when its folder or its last line is there.
"""

import json
import os
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from lorafuse_jax.types import UserError

LOCK_NAME = ".lock"
PACKAGES = ("lorafuse-jax", "jax", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON line a step and seed."""
        return self.path / "metrics.jsonl"

    @property
    def cost_path(self) -> Path:
        """What the work on it took, a line a command."""
        return self.path / "cost.jsonl"

    @property
    def contamination_path(self) -> Path:
        """What training and held-out data have in common."""
        return self.path / "contamination.json"

    @property
    def checkpoints_path(self) -> Path:
        """Training states."""
        return self.path / "checkpoints"

    @property
    def evaluations_path(self) -> Path:
        """A folder a benchmark."""
        return self.path / "evaluations"

    def adapter_path(self, seed: int) -> Path:
        """The adapter of one seed."""
        return self.path / "adapters" / f"seed-{seed}"

    def frozen_path(self, seed: int) -> Path:
        """The last finite adapter of a seed that was frozen; never taken for a trained one."""
        return self.path / "frozen" / f"seed-{seed}"

    def trained_seeds(self) -> list[int]:
        """The seeds that trained to the end, in the order of the configuration.

        Raises:
            UserError: this is no run folder, or the training is not finished.
        """
        seeds = self.config()["seeds"]
        trained = [seed for seed in seeds if self.adapter_path(seed).exists()]
        missing = [s for s in seeds if s not in trained and not self.frozen_path(s).exists()]
        if missing:
            raise UserError(
                f"{self.path} has no adapter for seed {missing[0]} yet; repeat its lorafuse train"
            )
        return trained

    def fused_path(self, name: str) -> Path:
        """A fused adapter."""
        return self.path / "fused" / name

    def fused_names(self) -> list[str]:
        """Fused adapters that are there, in alphabetical order."""
        folders = (self.path / "fused").glob("*/*.json")
        return sorted({file.parent.name for file in folders})

    def config(self) -> dict:
        """The configuration.

        Raises:
            UserError: this is no run folder.
        """
        try:
            return json.loads(self.config_path.read_text())
        except FileNotFoundError:
            raise UserError(
                f"{self.path} is no run folder: it has no config.json; lorafuse train makes one"
            ) from None
        except json.JSONDecodeError as error:
            raise UserError(f"{self.config_path} is damaged: {error}") from None

    def metrics(self) -> list[dict]:
        """The lines of ``metrics.jsonl``; none if there was no training yet."""
        return _json_lines(self.metrics_path)

    def costs(self) -> list[dict]:
        """The lines of ``cost.jsonl``; none of runs from before there was such a file."""
        return _json_lines(self.cost_path)

    def open_for(self, config: dict) -> None:
        """Start a run with this configuration, or go on with one that was started with it.

        Raises:
            UserError: the folder holds something else, or a run with another configuration.
        """
        self.check_free_for(config)
        if not self.config_path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.config_path, json.dumps(config, indent=2) + "\n")

    def check_free_for(self, config: dict) -> None:
        """Raise UserError where ``open_for`` would; changes nothing."""
        if self.config_path.exists():
            _check_same(self.config(), config, self.path)
        elif self.path.exists() and not all(map(_is_ours, self.path.iterdir())):
            raise UserError(
                f"{self.path} is not empty and holds no run; name a new folder with --out"
            )


def versions() -> dict[str, str]:
    """Versions of what decides over a result."""
    return {package: version(package) for package in PACKAGES}


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is whole or not there, whatever ends the process or the power."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_name(name: str) -> str:
    """A name that is safe as a folder's.

    Raises:
        UserError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        raise UserError(f"{name!r} is no name for a folder: use letters, digits and . _ + -")
    return name


def _json_lines(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def _is_ours(path: Path) -> bool:
    """Whether it is what a start that was killed leaves in an empty folder."""
    return path.name == LOCK_NAME or path.name.startswith(".config.json.")


def _check_same(old: dict, new: dict, path: Path) -> None:
    keys = sorted((old.keys() | new.keys()) - {"versions"})
    different = [key for key in keys if old.get(key) != new.get(key)]
    if different:
        listed = "\n".join(
            f"  {key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in different
        )
        raise UserError(
            f"{path} holds a run with another configuration:\n{listed}\n"
            "name another folder with --out, or repeat the command as it was to go on with it"
        )

"""The controlled world's training runs, by the tool's own ``train``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.world.conditions import Condition, numbered
from experiments.world.config import World
from experiments.world.decoder import write_rows
from experiments.world.language import TASKS, draw
from lorafuse_jax.formats import load_adapter
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import Adapter
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig

STEPS = {"train": 2, "validation": 2, "test": 2, "longer": 3}
"""Of the problems of each split."""


def write_task(folder: Path, task: str, problems: Mapping[str, int]) -> Path:
    """A task's splits, disjoint; the same whenever they are made."""
    seed = [77, list(TASKS).index(task)]
    make, rng, taken = TASKS[task], np.random.default_rng(seed), set[str]()
    for split, count in problems.items():
        drawn = draw(lambda rng, split=split: make(rng, STEPS[split]), rng, count, taken)
        taken |= {one.prompt for one in drawn}
        if not (folder / f"{split}.jsonl").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_rows(folder / f"{split}.jsonl", drawn)
    return folder


def train_condition(
    out: Path, condition: Condition, settings: Mapping[str, Any]
) -> list[tuple[RunFolder, int]]:
    """All seeds of a condition: where each lies."""
    found: list[tuple[RunFolder, int]] = []
    for name, seeds in condition.runs.items():
        run = train(TrainConfig(seeds=seeds, **settings), out / name.replace(" ", "-"))
        found += [(run, seed) for seed in seeds]
    return found


def adapters_of(trained: list[tuple[RunFolder, int]], model: Model) -> list[Adapter]:
    """The seeds' adapters, with the decoder's module paths."""
    return [for_model(load_adapter(run.adapter_path(seed)), model) for run, seed in trained]


def tune(out: Path, world: World, settings: Mapping[str, Any], number: int) -> dict[str, float]:
    """Held-out loss, nats a token, of each learning rate: its mean over a few seeds of their own.

    Args:
        out: folder for the run.
        world: gives rates and how many seeds.
        settings: of the recipe.
        number: of the recipe, so that no two share seeds.
    """
    rates = [rate for rate in world.rates for _ in range(world.tuning_seeds)]
    seeds = numbered(50_000 + 1000 * number, len(rates))
    run = train(TrainConfig(seeds=seeds, learning_rate=tuple(rates), **settings), out)
    last = {line["seed"]: line["heldout_loss"] for line in run.metrics() if "heldout_loss" in line}
    losses = dict[str, list[float]]()
    for rate, seed in zip(rates, seeds, strict=True):
        losses.setdefault(str(rate), []).append(last.get(seed, float("inf")))
    return {rate: float(np.mean(own)) for rate, own in losses.items()}

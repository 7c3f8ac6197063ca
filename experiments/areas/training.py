"""Learning rates, groups of seeds, and what they are compared with."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.areas.area import Group
from experiments.areas.steps import Step
from experiments.areas.study import Study, write_json
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.workflow.progress import console
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import Stream, TrainConfig

SINGLE = "single"
ALL_STREAMS: tuple[Stream, ...] = ("init", "order", "dropout", "subset")


def training_steps(study: Study) -> Iterator[Step]:
    """Everything that is trained."""
    area = study.area
    tuned: list[tuple[str, Mapping[str, Any], tuple[float, ...]]] = [
        (SINGLE, {}, area.learning_rates),
        *((c.name, c.changes, c.learning_rates) for c in area.controls if c.learning_rates),
    ]
    for name, changes, rates in tuned:
        if len(rates) > 1:
            config = _tuning_config(study, changes, rates)
            yield _train(f"learning rates, {name}", study.tuning(name), lambda c=config: c)
    yield Step(
        title="choose learning rates",
        run=lambda: choose_rates(study),
        inputs=lambda: [(name, dict(changes), rates) for name, changes, rates in tuned],
        outputs=[study.rates_path],
    )
    for run, group in zip(study.groups, area.groups, strict=True):
        yield _train(run.path.name, run, lambda g=group: _config(study, {}, g, SINGLE))
    for control in area.controls:
        seeds = tuple(seed for group in area.control_seeds(control) for seed in group)
        name = control.name if control.learning_rates else SINGLE
        yield _train(
            control.name,
            study.control(control),
            lambda c=control, s=seeds, n=name: _config(study, c.changes, s, n),
        )
    if area.curve is not None:
        seeds = area.curve.seeds
        yield _train("curve", study.curve, lambda: _config(study, {}, seeds, SINGLE))


def choose_rates(study: Study) -> None:
    """Write ``rates.json``: of each tuning run the rate with the lowest held-out loss at its end.

    A rate at which the loss was not finite is not taken; one alone is, as it is.
    """
    area, found = study.area, {}
    named = {SINGLE: area.learning_rates}
    named |= {c.name: c.learning_rates for c in area.controls if c.learning_rates}
    for name, rates in named.items():
        losses = _last_losses(study.tuning(name), rates) if len(rates) > 1 else {}
        rate = min(losses, key=lambda one: losses[one]) if losses else rates[0]
        if losses and rate in (min(rates), max(rates)):
            console.print(f"{name}: the best learning rate, {rate:g}, is at the edge of the grid")
        found[name] = {"rate": rate, "losses": {f"{r:g}": loss for r, loss in losses.items()}}
    write_json(study.rates_path, found)


def group_losses(run: RunFolder) -> dict[int, float]:
    """The held-out loss of every seed after its last step."""
    lines = [line for line in run.metrics() if "heldout_loss" in line and "seed" in line]
    return {line["seed"]: line["heldout_loss"] for line in lines}


def _last_losses(run: RunFolder, rates: tuple[float, ...]) -> dict[float, float]:
    losses, finished = group_losses(run), run.trained_seeds()
    by_rate = dict(zip(rates, run.config()["seeds"], strict=True))
    return {
        rate: losses[seed]
        for rate, seed in by_rate.items()
        if seed in finished and math.isfinite(losses[seed])
    }


def _tuning_config(
    study: Study, changes: Mapping[str, Any], rates: tuple[float, ...]
) -> TrainConfig:
    """One seed as often as there are rates: all randomness is the first one's."""
    first = study.area.tuning_seed
    names = tuple(first + number for number in range(len(rates)))
    return study.area.config({**changes, "shared": ALL_STREAMS}, names, rates)


def _config(study: Study, changes: Mapping[str, Any], seeds: Group, rates: str) -> TrainConfig:
    return study.area.config(changes, seeds, study.rate(rates))


def _train(title: str, run: RunFolder, config: Any) -> Step:
    return Step(
        title=f"train {title}",
        run=lambda: _train_all(config(), run.path),
        inputs=lambda: vars(config()),
        outputs=[run.config_path, run.path / "adapters"],
    )


def _train_all(config: TrainConfig, out: Path) -> None:
    train(config, out).trained_seeds()

"""Learning rates, groups of seeds, and what they are compared with."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.areas.area import Group
from experiments.areas.steps import Step
from experiments.areas.study import Study, write_json
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.workflow.progress import console
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import Stream, TrainConfig

SINGLE = "single"
ALL_STREAMS: tuple[Stream, ...] = ("init", "order", "dropout", "subset")


class _Tuned(NamedTuple):
    """What has a learning rate of its own."""

    name: str
    changes: Mapping[str, Any]
    rates: tuple[float, ...]
    at_once: int

    def parts(self) -> list[tuple[float, ...]]:
        """Rates that are trained together; none where there is nothing to choose."""
        if len(self.rates) == 1:
            return []
        starts = range(0, len(self.rates), self.at_once)
        return [self.rates[start : start + self.at_once] for start in starts]


def training_steps(study: Study) -> Iterator[Step]:
    """Everything that is trained."""
    area, tuned = study.area, _tuned(study)
    for one in tuned:
        for number, rates in enumerate(one.parts(), start=1):
            config = _tuning_config(study, one.changes, rates)
            title = f"learning rates {', '.join(f'{rate:g}' for rate in rates)}: {one.name}"
            yield _train(title, study.tuning(one.name, number), lambda c=config: c)
    yield Step(
        title="choose learning rates",
        run=lambda: choose_rates(study),
        inputs=lambda: [[one.name, dict(one.changes), one.rates, one.at_once] for one in tuned],
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
    """Write ``rates.json``: of each grid the rate whose last held-out loss is the lowest.

    A rate at which the loss was not finite is not taken; one alone is, as it is.
    """
    found = {}
    for one in _tuned(study):
        losses: dict[float, float] = {}
        for number, rates in enumerate(one.parts(), start=1):
            losses |= _last_losses(study.tuning(one.name, number), rates)
        rate = min(losses, key=lambda r: losses[r]) if losses else one.rates[0]
        if losses and rate in (min(one.rates), max(one.rates)):
            console.print(f"{one.name}: the best rate, {rate:g}, is at the edge of its grid")
        found[one.name] = {"rate": rate, "losses": {f"{r:g}": loss for r, loss in losses.items()}}
    write_json(study.rates_path, found)


def group_losses(run: RunFolder) -> dict[int, float]:
    """The held-out loss of every seed after its last step."""
    lines = [line for line in run.metrics() if "heldout_loss" in line and "seed" in line]
    return {line["seed"]: line["heldout_loss"] for line in lines}


def _tuned(study: Study) -> list[_Tuned]:
    area = study.area
    return [
        _Tuned(SINGLE, {}, area.learning_rates, len(area.learning_rates)),
        *(
            _Tuned(c.name, c.changes, c.learning_rates, c.rates_at_once or len(c.learning_rates))
            for c in area.controls
            if c.learning_rates
        ),
    ]


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


def _train(title: str, run: RunFolder, config: Callable[[], TrainConfig]) -> Step:
    return Step(
        title=f"train {title}",
        run=lambda: _train_all(config(), run.path),
        inputs=lambda: vars(config()),
        outputs=[run.config_path, run.path / "adapters"],
    )


def _train_all(config: TrainConfig, out: Path) -> None:
    """To the end; a killed call leaves some adapters unwritten, which ``trained_seeds`` misses."""
    train(config, out).trained_seeds()

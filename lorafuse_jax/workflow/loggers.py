"""Where metrics go besides ``metrics.jsonl``, if asked: TensorBoard, Weights & Biases, Trackio."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from lorafuse_jax.training.loop import StepMetrics
from lorafuse_jax.types import UserError

LoggerName = Literal["tensorboard", "wandb", "trackio"]
PROJECT = "lorafuse"
NEEDS = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio"}
Log = Callable[[int, dict[str, float]], None]
"""``(step, {name: value})``."""


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Raise UserError if the package of one is not installed."""
    for name in names:
        try:
            import_module(NEEDS[name])
        except ImportError:
            raise UserError(
                f"--log {name} needs the package {NEEDS[name]}; pip install {NEEDS[name]} adds it"
            ) from None


@contextmanager
def open_loggers(names: Sequence[LoggerName], run: Path, start: int) -> Iterator[Log]:
    """Log to all of them; a run that goes on goes on there as well.

    Args:
        names: which.
        run: the run folder; TensorBoard's files go into ``tensorboard`` in it.
        start: steps taken already; later ones that a stopped process logged are replaced where the
            logger can.
    """
    opened = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
    with ExitStack() as stack:
        logs = [stack.enter_context(opened[name](run, start)) for name in names]

        def log(step: int, values: dict[str, float]) -> None:
            for one in logs:
                one(step, values)

        yield log


def logged_values(
    metrics: StepMetrics, speed: dict[str, float], fused_name: str
) -> dict[str, float]:
    """The metrics of a step by name: ``train_loss/seed-11``, ``heldout_loss/fused-mean``."""
    values = {f"train_loss/seed-{seed}": loss for seed, loss in metrics.train_losses.items()}
    values |= {f"heldout_loss/seed-{s}": loss for s, loss in (metrics.heldout or {}).items()}
    if metrics.fused is not None:
        values[f"heldout_loss/fused-{fused_name}"] = metrics.fused
    return values | {f"speed/{name}": value for name, value in speed.items()}


@contextmanager
def _tensorboard(run: Path, start: int) -> Iterator[Log]:
    module: Any = import_module("tensorboardX")
    writer = module.SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)

    def log(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    try:
        yield log
    finally:
        writer.close()


@contextmanager
def _wandb(run: Path, start: int) -> Iterator[Log]:
    wandb: Any = import_module("wandb")
    same = sha256(str(run.absolute()).encode()).hexdigest()[:16]
    started = wandb.init(project=PROJECT, name=run.name, id=same, resume="allow", dir=str(run))
    try:
        yield lambda step, values: started.log(values, step=step)
    finally:
        started.finish()


@contextmanager
def _trackio(run: Path, start: int) -> Iterator[Log]:
    trackio: Any = import_module("trackio")
    trackio.init(project=PROJECT, name=run.name, resume="allow")
    try:
        yield lambda step, values: trackio.log(values, step=step)
    finally:
        trackio.finish()

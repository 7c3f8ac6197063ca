"""What the command line of ``lorafuse train`` takes."""

from dataclasses import dataclass
from pathlib import Path

from lorafuse_jax.workflow.loggers import LoggerName
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Train(TrainConfig):
    """Train one adapter a seed, all in one step, into a run folder.

    lorafuse train --model smollm2-135m-instruct --data my.jsonl --seeds 11 42 202 --out runs/my

    Repeating the command goes on where it was stopped.

    Attributes:
        out: the run folder.
        log: where metrics go besides metrics.jsonl: tensorboard, wandb, trackio.
    """

    out: Path
    log: tuple[LoggerName, ...] = ()

    def run(self) -> None:
        """Train, or go on."""
        settings = {key: value for key, value in vars(self).items() if key not in ("out", "log")}
        train(TrainConfig(**settings), self.out, self.log)

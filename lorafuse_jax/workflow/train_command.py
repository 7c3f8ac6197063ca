"""What the command line of ``lorafuse train`` takes."""

from dataclasses import dataclass
from pathlib import Path

from lorafuse_jax.parallel.hosts import is_first, join, parse_hosts
from lorafuse_jax.parallel.mesh import parse_mesh
from lorafuse_jax.workflow.loggers import LoggerName
from lorafuse_jax.workflow.progress import console
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Train(TrainConfig):
    """Train one adapter a seed, all in one step, into a run folder.

    lorafuse train --model smollm2-135m-instruct --data my.jsonl --seeds 11 42 202 --out runs/my

    lorafuse train --model llama2/ --data metamathqa --quantization nf4 --seeds 1 2 --out runs/llama

    Each seed's adapter is written into the run folder as a PEFT adapter, adapters/seed-11. Then
    fuse and compare them: lorafuse fuse runs/my --operator mean, and lorafuse evaluate runs/my.
    Repeating the command goes on where it was stopped.

    Attributes:
        out: the run folder.
        log: where metrics go besides metrics.jsonl: tensorboard, wandb, trackio.
        mesh: how several devices share the work, as in seed=2,data=2,model=2 or data=8,fsdp: seeds,
            examples and matrices dealt out; fsdp deals the base out over data too. By default all
            devices, seeds first. It may be another when a run goes on.
        hosts: of a job on several hosts, each of which is given this command: auto where SLURM,
            Open MPI, Cloud TPU or GKE say who they are; or, as in 10.0.0.1:1234,0/4, the address
            and a free port of process 0, the number of this process and how many there are. They
            share the folder --out; the first of them writes and prints.
    """

    out: Path
    log: tuple[LoggerName, ...] = ()
    mesh: str | None = None
    hosts: str | None = None

    def run(self) -> None:
        """Train, or go on."""
        if self.hosts is not None:
            join(parse_hosts(self.hosts))
            console.quiet = not is_first()
        own = ("out", "log", "mesh", "hosts")
        settings = {key: value for key, value in vars(self).items() if key not in own}
        mesh = None if self.mesh is None else parse_mesh(self.mesh)
        train(TrainConfig(**settings), self.out, self.log, mesh)

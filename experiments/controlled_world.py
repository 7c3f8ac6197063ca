"""A small world in which dozens of groups of seeds can be trained: when does fusing them help?

    .venv/bin/python -m experiments.controlled_world --out runs/study/world      # about 3 hours
    .venv/bin/python -m experiments.controlled_world --smoke --out runs/smoke    # 2 minutes

Two CPU cores, 4 GB. A Llama of 1.8 million parameters is pretrained on single steps of arithmetic,
word problems and list programs; adapters are trained on two tasks that chain steps. What is asked,
of whom, and how it is judged: experiments/protocol.md. All settings are ours: the paper's are not
known.

Every step is kept; ``--hours 2`` ends between two steps after two hours, with status 3, and the
same command goes on. Results: experiments/results/study/world/*.json and *.npz.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from experiments.shard import Shard
from experiments.world.config import WORLDS, World
from experiments.world.decoder import pretrain
from experiments.world.language import TASKS
from experiments.world.stages import Stages


@dataclass(frozen=True, kw_only=True)
class Study:
    """Pretrain, tune, train, choose, test; what is there already is not done again.

    Attributes:
        out: folder for runs (about 2 GB).
        results: folder for what is kept.
        hours: end between two steps after so long; by default at the end.
        smoke: all steps at a size that shows nothing.
        tasks: what adapters are trained on.
    """

    out: Path = Path("runs/study/world")
    results: Path = Path("experiments/results/study/world")
    hours: float | None = None
    smoke: bool = False
    tasks: tuple[str, ...] = tuple(TASKS)


def main(study: Study) -> None:
    """Run all that is left."""
    world: World = WORLDS["smoke" if study.smoke else "laptop"]
    results = study.out / "results" if study.smoke else study.results
    shard = Shard(study.hours)
    shard.step("pretraining")
    base = pretrain(study.out, **world.pretraining)
    stages = [Stages(world, shard, base, study.out, results, task) for task in study.tasks]
    for stage in stages:
        stage.train_and_choose()
    for stage in stages:
        stage.test()
    for stage in stages:
        stage.count_seeds()
    for stage in stages:
        if stage.task in world.swept_tasks:
            stage.sweep()


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main(tyro.cli(Study))

"""``lorafuse demo``: fetch, train three seeds, fuse, evaluate, report; finished parts are kept."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from lorafuse_jax.assets import fetch
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.workflow.evaluate import evaluate
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.progress import clock, console
from lorafuse_jax.workflow.report import report
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig

MODEL, DATA = "smollm2-135m-instruct", "gsm-symbolic"
OPERATORS = ("mean", "scaled_mean", "distribution_matching", "seedlora")


@dataclass(frozen=True)
class DemoPlan:
    """What fits the time.

    Attributes:
        config: the training.
        test: problems with fresh numbers from the training's templates.
        transfer: problems from templates that were not trained on.
    """

    config: TrainConfig
    test: int
    transfer: int


FULL = DemoPlan(
    TrainConfig(
        model=MODEL,
        data=DATA,
        examples=200,
        examples_per_step=8,
        heldout_examples=16,
    ),
    test=40,
    transfer=12,
)
QUICK = DemoPlan(
    replace(FULL.config, examples=24, heldout_examples=4),
    test=6,
    transfer=0,
)


def demo(out: Path, *, quick: bool) -> None:
    """Run everything into ``out``."""
    began = time.monotonic()
    plan = QUICK if quick else FULL

    def chapter(title: str) -> None:
        console.rule(f"{title} · {clock(time.monotonic() - began)}", align="left")

    chapter("1 fetch")
    for name in (MODEL, DATA):
        fetch(name, say=console.print)
    chapter("2 train")
    run = train(plan.config, out)
    chapter("3 fuse")
    for operator in OPERATORS:
        fuse_run(run, FuseRequest(operator=operator), run.fused_path(operator))
    chapter("4 evaluate")
    _evaluate(run, plan)
    chapter("5 report")
    report(run)
    console.print(f"\nall of it took {clock(time.monotonic() - began)}; next: lorafuse --help")


def _evaluate(run: RunFolder, plan: DemoPlan) -> None:
    evaluate(run, [f"{DATA}/test"], plan.test)
    if plan.transfer:
        evaluate(run, [f"{DATA}/transfer"], plan.transfer)

"""A program that trains a tiny model, kills the training 20 times, and compares what comes out.

    python -m tests.workflow.killed_runs FOLDER KILLS SEED

Every training is a process of its own, forked from this one so that nothing is imported twice, and
killed with SIGKILL at a random moment; it goes on in the next. Prints JSON.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lorafuse_jax.training import peak
from lorafuse_jax.workflow import trainer
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model

trainer.CHECKPOINT_SECONDS = 0.0
peak.MEASURE_SECONDS = 0.01


def in_child(work: Callable[[], object]) -> int:
    """Start ``work`` in another process; gives its id."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work()
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def write_inputs(inputs: Path) -> None:
    write_tiny_model(inputs / "model")
    write_sums(inputs / "sums")


def train_tiny(inputs: Path, out: Path) -> None:
    config = TrainConfig(
        model=str(inputs / "model"),
        data=str(inputs / "sums"),
        seeds=(1, 2),
        rank=2,
        dropout=0.1,
        examples=80,
        examples_per_step=4,
        heldout_examples=4,
        fuse_every=3,
        average_last=2,
    )
    train(config, out)


def files_of(run: Path) -> dict[str, str]:
    """What must be the same: bytes of everything, metrics without their times; no costs."""
    found = {}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if not file.is_file() or name.startswith((".lock", "checkpoints", "cost")):
            continue
        found[name] = file.read_bytes().hex()
        if name == "metrics.jsonl":
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            timed = ("tokens_per_s", "peak_share")
            kept = [{k: v for k, v in line.items() if k not in timed} for line in lines]
            found[name] = json.dumps(kept)
    return found


def main(folder: Path, kills: int, seed: int) -> dict:
    inputs, rng = folder / "inputs", random.Random(seed)
    # In a child, as XLA's threads do not survive a fork.
    os.waitpid(in_child(lambda: write_inputs(inputs)), 0)
    for name in ("whole", "again"):  # the first compiles, and fills the cache for the others
        began = time.monotonic()
        assert os.waitpid(in_child(lambda name=name: train_tiny(inputs, folder / name)), 0)[1] == 0
        seconds = time.monotonic() - began
    expected = files_of(folder / "whole")
    killed: list[float] = []
    runs = [folder / "again"]
    while len(killed) < kills:
        runs.append(folder / f"killed-{len(runs)}")
        finished = False
        while not finished:
            child = in_child(lambda: train_tiny(inputs, runs[-1]))
            if len(killed) < kills:
                moment = rng.uniform(0, 0.7 * seconds)  # the later, the likelier it is finished
                time.sleep(moment)
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if os.WIFSIGNALED(status):
                killed.append(round(moment, 2))
            else:
                assert os.WEXITSTATUS(status) == 0, f"a repeated run failed: {runs[-1]}"
                finished = True
    different = []
    for run in runs:
        found = files_of(run)
        names = sorted(expected.keys() | found.keys())
        different += [f"{run.name}: {n}" for n in names if found.get(n) != expected.get(n)]
    return {
        "seconds_of_one_run": round(seconds, 2),
        "killed_after": killed,
        "runs": len(runs),
        "compared": sorted(expected),
        "different": different,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))

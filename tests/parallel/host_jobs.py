"""Trains a tiny model in jobs of several processes, kills some of them, and prints what came of it.

    python -m tests.parallel.host_jobs FOLDER

The processes are forked, so that nothing is imported twice, and find each other on the loopback.
"""

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from lorafuse_jax import cli
from lorafuse_jax.data import loader
from lorafuse_jax.models import safetensors_folder
from lorafuse_jax.training import peak
from lorafuse_jax.workflow import progress, trainer
from tests.tiny import write_sums, write_tiny_model
from tests.workflow.killed_runs import files_of, in_child

trainer.CHECKPOINT_SECONDS = 0.0
peak.MEASURE_SECONDS = 0.01
progress.LOG_SECONDS = 0.0

STEPS = 8
SETTINGS = (
    f"--seeds 1 2 --rank 2 --examples {4 * STEPS} --examples-per-step 4 --heldout-examples 4 "
    "--fuse-every 3 --average-last 2"
).split()
MESH = ("--mesh", "seed=2,data=2,fsdp")

MOST_SECONDS = 240.0
"""For the first steps of a job, however busy the machine is."""


class Jobs:
    """One after the other, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(
        self,
        out: str,
        processes: int,
        devices: int,
        *flags: str,
        second: Path | None = None,
        told: tuple[str, ...] = (),
    ) -> list[int]:
        """A job that trains into ``out``.

        Args:
            out: name of the run folder.
            processes: how many.
            devices: of each.
            flags: further ones of the command.
            second: where the second process looks for the data.
            told: further flags of the second process alone.
        """
        port = _free_port()
        started = []
        for number in range(processes):
            words = ["--model", str(self.folder / "model"), "--data", "sums"]
            words += ["--out", str(self.folder / out), *SETTINGS, *flags]
            if processes > 1:
                words += ["--hosts", f"127.0.0.1:{port},{number}/{processes}"]
            words += told if number == 1 else ()
            here = second if second and number == 1 else self.folder
            said = self.folder / f"{out}.{number}"
            started.append(in_child(partial(_train, words, devices, said, here)))
        return started

    def end(self, out: str, started: list[int]) -> dict:
        """Wait for all; the status of each, what it said, and what it read."""
        ended = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]
        said = [self.folder / f"{out}.{number}" for number in range(len(started))]
        reads = [one.with_name(one.name + ".reads") for one in said]
        return {
            "status": ended,
            "said": [one.read_text() for one in said],
            "reads": [json.loads(one.read_text()) for one in reads if one.exists()],
        }

    def run(self, out: str, processes: int, devices: int, *flags: str, **second: Any) -> dict:
        """Start a job, and wait for its end."""
        return self.end(out, self.start(out, processes, devices, *flags, **second))

    def run_until(self, out: str, step: int, end: Callable[[list[int]], None]) -> dict:
        """Start a job of two, and do something to it once a checkpoint is there."""
        started = self.start(out, 2, 2, *MESH)
        began = time.monotonic()
        while not (self.folder / out / "checkpoints" / str(step)).exists():
            time.sleep(0.01)
            assert time.monotonic() - began < MOST_SECONDS, (self.folder / f"{out}.0").read_text()
        end(started)
        return self.end(out, started)


def _train(words: list[str], devices: int, said: Path, here: Path) -> None:
    """In a process of its own: the command, as it is called."""
    os.chdir(here)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    reads = _count_reads()
    sys.argv = ["lorafuse", "train", *words]
    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = end.code
    said.with_name(said.name + ".reads").write_text(json.dumps(reads))
    sys.stdout.flush()
    if "--hosts" in words:
        jax.distributed.shutdown()  # at the end of Python, which a forked process does not reach
    os._exit(status)


def _count_reads() -> Counter[str]:
    """From now on: entries of weights that are read, and examples that are packed."""
    counts: Counter[str] = Counter()
    read, pack = safetensors_folder._read, loader.pack

    def counted_read(file, name, index):
        values = read(file, name, index)
        counts["weights"] += values.size
        return values

    def counted_pack(examples, shape):
        counts["examples"] += len(examples)
        return pack(examples, shape)

    safetensors_folder._read, loader.pack = counted_read, counted_pack
    return counts


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def write_inputs(folder: Path) -> None:
    """A model, data, and in ``second`` the same data without their last line."""
    write_tiny_model(folder / "model")
    for data in (folder / "sums", folder / "second" / "sums"):
        write_sums(data)
    lines = (data / "train.jsonl").read_text().splitlines()
    (data / "train.jsonl").write_text("\n".join(lines[:-1]) + "\n")


def main(folder: Path) -> dict:
    jobs = Jobs(folder)
    os.waitpid(in_child(lambda: write_inputs(folder)), 0)
    send = lambda number, to: lambda started: os.kill(started[to], number)  # noqa: E731
    found = {
        "one": jobs.run("one", 1, 4, *MESH),
        "four": jobs.run("four", 4, 1, *MESH),
        "killed": jobs.run_until("killed", 3, send(signal.SIGKILL, to=1)),
        "killed first": jobs.run_until("killed-first", 3, send(signal.SIGKILL, to=0)),
        "stopped": jobs.run_until("stopped", 2, send(signal.SIGTERM, to=1)),
    }
    shutil.copytree(folder / "killed", folder / "elsewhere")
    found |= {
        "resumed": jobs.run("killed", 2, 2, *MESH),
        "stop resumed": jobs.run("stopped", 1, 4, *MESH),
        "elsewhere": jobs.run("elsewhere", 1, 4, "--mesh", "data=2,model=2"),
        "other seeds": jobs.run("none", 2, 1, told=("--seeds", "1", "3")),
        "other data": jobs.run("none", 2, 1, second=folder / "second"),
        "no data": jobs.run("none", 2, 1, second=folder / "model"),
        "no mesh": jobs.run("none", 2, 1, "--mesh", "seed=2,data=2"),
    }
    runs = ("one", "four", "killed", "stopped", "elsewhere")
    return {"jobs": found, "files": {run: files_of(folder / run) for run in runs}}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

"""What the command line of ``lorafuse plan`` takes."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax

from lorafuse_jax.models.decoder import Remat
from lorafuse_jax.models.published import described
from lorafuse_jax.models.quantized import Quantization
from lorafuse_jax.parallel.mesh import parse_mesh
from lorafuse_jax.plan.machines import Machine, machine
from lorafuse_jax.training.peak import matmul_peak
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.plan_run import make_plan
from lorafuse_jax.workflow.plan_search import PlanRequest
from lorafuse_jax.workflow.plan_show import as_data, headline, sentences, tables, train_line
from lorafuse_jax.workflow.planned import Plan
from lorafuse_jax.workflow.progress import console, print_table


@dataclass(frozen=True, kw_only=True)
class PlanCommand:
    """What a training run takes on a machine that is not at hand, and how to run it there.

    lorafuse plan --model llama2-7b --seeds 8 --rank 16 --batch 8 --length 1024 --machine v5e-8

    Compiles the very step of training for the machine, from shapes alone: TPUs with libtpu (pip
    install 'lorafuse-jax[tpu]'; it takes no TPU), cpu-8 for this host. Of GPUs there is an
    estimate. Chooses mesh, remat, seeds per pass and micro-batches, as far as they are not given.

    Attributes:
        model: llama2-7b, llama2-13b, llama2-70b, mistral-7b, smollm2-135m, or a folder with a
            config.json.
        machine: v5e-8, v6e-8, v5p-64 (which has 32 chips), h100-8, a100-80-8, cpu-8, ...
        seeds: how many.
        rank: of each seed's updates, on all linear layers.
        batch: examples of each seed in a step.
        length: of each, in tokens.
        answer: of these tokens, how many are the answer, which has a loss; all by default.
        quantization: keep the base in int8 or nf4.
        mesh: as for lorafuse train; without it, the best is looked for, as in all that follows.
        remat: what the backward pass computes again.
        seeds_per_pass: how many seeds are computed at once.
        micro_batches: in how many parts a step's examples are computed.
        estimate: reckon only, compile nothing.
        json: a file for all numbers.
    """

    model: str
    machine: str
    seeds: int = 8
    rank: int = 16
    batch: int = 8
    length: int = 1024
    answer: int | None = None
    quantization: Quantization | None = None
    mesh: str | None = None
    remat: Remat | None = None
    seeds_per_pass: int | None = None
    micro_batches: int | None = None
    estimate: bool = False
    json: Path | None = None

    def run(self) -> None:
        """Plan, and show."""
        if self.json is not None:
            _check_new(self.json)
        plan = self.plan()
        console.print(headline(plan), style="bold")
        for table in tables(plan):
            print_table(table)
        for sentence in sentences(plan):
            console.print(sentence)
        console.print(train_line(plan), markup=False)
        if self.json is not None:
            self.json.write_text(json.dumps(as_data(plan), indent=1) + "\n")

    def plan(self) -> Plan:
        """What is recommended.

        Raises:
            UserError: something is not known or not possible, or nothing fits.
        """
        request = self.request()
        on = request.machine
        rate = None
        if on.platform == "cpu":
            begin_with(on)
            rate = matmul_peak() / on.devices
        return make_plan(
            request,
            estimate=self.estimate or on.platform == "gpu",
            flops=rate,
            say=lambda text: console.print(text, style="dim", markup=False),
        )

    def request(self) -> PlanRequest:
        """What is asked; UserError for what is not known or not possible."""
        for name in ("seeds", "rank", "batch", "length", "answer"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name} must be at least 1, it is {value}")
        family, config = described(self.model)
        if self.length > config.context_length:
            raise UserError(
                f"--length {self.length} is beyond {self.model}'s context of "
                f"{config.context_length} tokens"
            )
        answer = self.length if self.answer is None else self.answer
        if answer > self.length:
            raise UserError(f"--answer {answer} is more than an example has: {self.length}")
        return PlanRequest(
            model=self.model,
            family=family,
            config=config,
            machine=machine(self.machine, host_memory()),
            seeds=self.seeds,
            rank=self.rank,
            batch=self.batch,
            length=self.length,
            answer=answer,
            quantization=self.quantization,
            mesh=None if self.mesh is None else parse_mesh(self.mesh),
            remat=self.remat,
            seeds_per_pass=self.seeds_per_pass,
            micro_batches=self.micro_batches,
        )


def host_memory() -> float:
    """Of this host, in bytes."""
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def begin_with(wanted: Machine) -> None:
    """Make so many CPU devices, if jax has not begun; otherwise ``devices_of`` looks at them."""
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", wanted.devices)
    except RuntimeError:
        return


def _check_new(file: Path) -> None:
    if file.exists() or not file.parent.is_dir():
        raise UserError(f"--json {file}: it is there already, or its folder is not")

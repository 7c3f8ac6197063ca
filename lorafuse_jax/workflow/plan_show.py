"""A plan as a person reads it, and as data."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from lorafuse_jax.models.published import HUB
from lorafuse_jax.parallel.mesh import AXES
from lorafuse_jax.plan.collectives import Sent
from lorafuse_jax.workflow.planned import Plan, cut_line

GB = 1e9


def headline(plan: Plan) -> str:
    """What was planned, and how."""
    request, machine = plan.request, plan.request.machine
    how = "an estimate by arithmetic: nothing was compiled"
    if plan.demand is not None:
        how = "the training step, compiled for it"
    base = request.quantization or request.dtype.name
    return (
        f"{request.model}, {request.seeds} seeds of rank {request.rank}, {request.batch} x "
        f"{request.length} tokens each, base in {base}, on {machine.name}: {machine.devices} x "
        f"{machine.chip.kind} · {how}"
    )


def memory_rows(plan: Plan) -> Iterator[tuple[str, float]]:
    """What lies on one device, in bytes."""
    held, found = plan.guess.held, plan.demand
    yield "weights", held.weights
    yield "adapters", held.adapters
    yield "optimiser", held.optimizer
    known = held.weights + held.adapters + held.optimizer
    made = plan.peak - plan.process
    yield "activations, gradients", made - (found.arguments if found else known)
    if found is not None:
        yield "batches and rest", found.arguments - known
    if plan.process:
        yield "the process itself", plan.process
    yield "peak", plan.peak
    yield "free", plan.request.machine.chip.memory - plan.peak


def tables(plan: Plan) -> Iterator[Table]:
    """Memory and work of one device."""
    total = plan.request.machine.chip.memory
    memory = Table("one device holds", box=SIMPLE)
    memory.add_column("GB", justify="right")
    memory.add_column("%", justify="right")
    for name, size in memory_rows(plan):
        strong = "bold" if name == "peak" else ""
        memory.add_row(name, f"{size / GB:.2f}", f"{100 * size / total:.0f}", style=strong)
    yield memory
    work = Table("a step, each device", box=SIMPLE)
    work.add_column("", justify="right")
    work.add_column("seconds at least", justify="right")
    taken, seconds = plan.work, plan.seconds
    say = lambda value: "?" if value is None else f"{value:.3g}"  # noqa: E731
    work.add_row("matrix products", f"{taken.flops / 1e12:.4g} TFLOP", say(seconds.compute))
    work.add_row("read and written", f"{taken.moved / GB:.4g} GB", say(seconds.memory))
    work.add_row("sent to others", f"{taken.sent / GB:.4g} GB", say(seconds.links))
    for one in collectives(plan):
        work.add_row(f"  {one.kind} over {one.axes}, {one.times} x", f"{one.bytes / GB:.4g} GB", "")
    yield work


def collectives(plan: Plan) -> tuple[Sent, ...]:
    """What was counted; nothing in an estimate."""
    return plan.demand.counted.collectives if plan.demand else ()


def sentences(plan: Plan) -> Iterator[str]:
    """What follows from the tables."""
    minimum = plan.needed + plan.recomputed
    yield (
        f"products: {plan.flops / 1e12:.4g} TFLOP on all devices, {plan.over_minimum:.3f} x the "
        f"minimum of {minimum / 1e12:.4g} (of which {plan.recomputed / 1e12:.3g} recomputed; "
        f"attention as multiplied, over whole rows: {(plan.needed - plan.causal) / 1e12:.3g} more "
        "than what is seen)"
    )
    seconds = plan.seconds
    yield (
        f"a step takes at least {seconds.at_least:.3g} s at the rates of the data sheet if "
        f"everything overlaps, {seconds.apart:.3g} s if sending does not"
    )
    about = "about " if plan.demand is None else ""
    yield (
        f"largest number of seeds that fits, divided anew: {about}{plan.most_seeds} (reckoned from "
        "this plan, not compiled)"
    )
    yield f"mesh {plan.cut.mesh} · remat {plan.cut.remat}; to train so:"


def train_line(plan: Plan) -> str:
    """The command to train as is planned."""
    request = plan.request
    seeds = " ".join(str(seed) for seed in range(request.seeds))
    quantized = f" --quantization {request.quantization}" if request.quantization else ""
    model = HUB.get(request.model, request.model)
    return (
        f"lorafuse train --model {model} --data my.jsonl --seeds {seeds} --rank {request.rank} "
        f"--examples-per-step {request.batch} --max-length {request.length} "
        f"{cut_line(plan.cut)}{quantized} --out runs/my"
    )


def as_data(plan: Plan) -> dict[str, Any]:
    """Everything, for a file: bytes, operations, seconds."""
    request, found = plan.request, plan.demand
    taken = plan.work
    return {
        "model": request.model,
        "machine": request.machine.name,
        "devices": request.machine.devices,
        "device_kind": request.machine.chip.kind,
        "compiled": found is not None,
        "seeds": request.seeds,
        "rank": request.rank,
        "batch": request.batch,
        "length": request.length,
        "answer": request.answer,
        "quantization": request.quantization,
        "mesh": {axis: getattr(plan.cut.mesh, axis) for axis in AXES}
        | {"fsdp": plan.cut.mesh.fsdp},
        "remat": plan.cut.remat,
        "seeds_per_pass": plan.cut.seeds_per_pass,
        "micro_batches": plan.cut.micro_batches,
        "memory_of_a_device": request.machine.chip.memory,
        "bytes_of_a_device": dict(memory_rows(plan)),
        "guessed_peak": plan.guess.peak,
        "flops_of_a_device": taken.flops,
        "moved_bytes_of_a_device": taken.moved,
        "sent_bytes_of_a_device": taken.sent,
        "sent": [one._asdict() for one in collectives(plan)],
        "flops": plan.flops,
        "needed_flops": plan.needed,
        "needed_flops_causal": plan.causal,
        "recomputed_flops": plan.recomputed,
        "over_minimum": plan.over_minimum,
        "seconds": vars(plan.seconds)
        | {"at_least": plan.seconds.at_least, "apart": plan.seconds.apart},
        "most_seeds": plan.most_seeds,
        "did_not_fit": [{"cut": cut_line(cut), "peak": peak} for cut, peak in plan.tried],
        "train": train_line(plan),
    }

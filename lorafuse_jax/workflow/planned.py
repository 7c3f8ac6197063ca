"""A plan: how a step is divided among devices, and what it takes of them."""

from dataclasses import dataclass

from lorafuse_jax.plan.compiled import Counted, Demand
from lorafuse_jax.plan.guess import Cut, Guess
from lorafuse_jax.plan.machines import Chip
from lorafuse_jax.workflow.plan_search import PlanRequest


@dataclass(frozen=True)
class Seconds:
    """What a step takes at least, at the rates of the data sheet; None where one is not known.

    Attributes:
        compute: its matrix products.
        memory: what it reads and writes.
        links: what devices send each other.
    """

    compute: float | None
    memory: float | None
    links: float | None

    @property
    def at_least(self) -> float:
        """If all three overlap completely."""
        return max(value or 0.0 for value in (self.compute, self.memory, self.links))

    @property
    def apart(self) -> float:
        """If devices speak while nothing else happens."""
        return max(self.compute or 0.0, self.memory or 0.0) + (self.links or 0.0)


@dataclass(frozen=True)
class Plan:
    """What is recommended, and what it takes.

    Attributes:
        request: what was asked.
        cut: the way to divide the work.
        guess: by arithmetic.
        demand: of the compiled program; None for an estimate.
        seconds: of a step.
        needed: operations of a step, attention as it is multiplied.
        causal: the same, if attention skipped what is not seen.
        recomputed: what the policy adds.
        most_seeds: the largest number of them that fits, as far as is told without compiling.
        tried: other ways that were compiled first and do not fit, and their peak in bytes or None.
        process: bytes of a device's share of the process itself, where devices are of the host: the
            planner's own after it has compiled, as training's would be.
    """

    request: PlanRequest
    cut: Cut
    guess: Guess
    demand: Demand | None
    seconds: Seconds
    needed: float
    causal: float
    recomputed: float
    most_seeds: int
    tried: tuple[tuple[Cut, float | None], ...] = ()
    process: float = 0.0

    @property
    def peak(self) -> float:
        """Bytes of one device."""
        return self.process + (self.guess.peak if self.demand is None else self.demand.peak)

    @property
    def work(self) -> Guess | Counted:
        """Of one device."""
        return work_of(self.guess, self.demand)

    @property
    def flops(self) -> float:
        """That all devices execute in a step."""
        return self.work.flops * self.cut.mesh.devices

    @property
    def over_minimum(self) -> float:
        """Executed over needed, what the policy recomputes counted as needed."""
        return self.flops / (self.needed + self.recomputed)


def cut_line(cut: Cut) -> str:
    """As flags of ``lorafuse train``."""
    parts = [f"--mesh {cut.mesh}", f"--remat {cut.remat}"]
    parts.append(f"--seeds-per-pass {cut.seeds_per_pass}")
    if cut.micro_batches > 1:
        parts.append(f"--micro-batches {cut.micro_batches}")
    return " ".join(parts)


def work_of(guess: Guess, found: Demand | None) -> Guess | Counted:
    """Counted in the compiled program, or guessed."""
    return guess if found is None else found.counted


def seconds_of(taken: Guess | Counted, chip: Chip, flops: float | None) -> Seconds:
    """Of a step of which each device takes so much."""
    rate = chip.flops or flops
    return Seconds(
        rate and taken.flops / rate,
        chip.bandwidth and taken.moved / chip.bandwidth,
        chip.links and taken.sent / chip.links,
    )

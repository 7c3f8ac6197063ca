"""The loop around the step: batches in, metrics out, checkpoints kept; it may stop anywhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from lorafuse_jax.parallel import hosts
from lorafuse_jax.training.step import RUNNING, Member, TrainState
from lorafuse_jax.types import Params, UserError

SAVING_SHARE = 50
"""A checkpoint is written when it is due and training took this many times as long as the last."""


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """What is known after one step.

    Attributes:
        step: steps taken, from 1.
        train_losses: seed -> mean loss of this step's answer tokens, nats; of seeds that go on.
        frozen: seeds whose loss or gradient was not finite in this very step.
        heldout: seed -> mean loss of the validation answer tokens; None between evaluations.
        fused: the same of the fused adapter; None where it is not asked for.
        seconds: that the step took, its data included, evaluation and saving not.
    """

    step: int
    train_losses: dict[int, float]
    frozen: list[int]
    heldout: dict[int, float] | None
    fused: float | None
    seconds: float


class Heldout(NamedTuple):
    """Losses on validation: of every seed [S], and of the fused adapter where it is asked for."""

    members: np.ndarray
    fused: float | None


@runtime_checkable
class Batches(Protocol):
    """Where batches come from: a function of the step alone, so a resumed run gets the same."""

    def batch(self, step: int) -> Any:
        """Arrays with the seed axis first."""
        ...


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """When ``fit`` does what.

    Attributes:
        num_steps: of the whole run.
        heldout_every: steps between evaluations.
        checkpoint_seconds: time between checkpoints, at least; when they are written does not
            change what is trained.
    """

    num_steps: int
    heldout_every: int
    checkpoint_seconds: float


def fit(
    state: TrainState,
    params: Params,
    *,
    seeds: tuple[int, ...],
    plan: FitPlan,
    step_fn: Callable,
    batches: Batches,
    member: Member,
    evaluate: Callable[[TrainState, Params], Heldout],
    save: Callable[[int, TrainState], None],
    report: Callable[[StepMetrics, Any], None],
    stop: Callable[[], bool],
) -> TrainState:
    """Train from ``state.step`` to ``plan.num_steps``, or until ``stop``.

    A seed whose loss or gradient is not finite is frozen by the step and named in the metrics of
    that step; the others go on.

    Args:
        state: fresh or restored; it is donated, use the returned one.
        params: base weights.
        seeds: the integers, for the metrics.
        plan: when to evaluate and save; the last step always does both.
        step_fn: from ``make_train_step``.
        batches: the data; the next batch is prepared while a step runs.
        member: what is each seed's own, leaves [S].
        evaluate: losses on validation.
        save: keeps a checkpoint; called after ``report`` saw its step.
        report: takes the metrics of one step, and its batch.
        stop: asked after every step; if it says so, on any host, this step is saved and the last.

    Raises:
        UserError: every seed is frozen.
    """
    cadence = _Cadence(plan.checkpoint_seconds)
    steps, frozen_at = hosts.fetch((state.step, state.frozen_at))
    start, running = int(steps[0]), frozen_at == RUNNING
    batch = batches.batch(start) if start < plan.num_steps else None
    for step in range(start, plan.num_steps):
        began, this_batch = time.perf_counter(), batch
        state, loss = step_fn(state, params, batch, member)
        if step + 1 < plan.num_steps:
            batch = batches.batch(step + 1)
        loss, frozen_at = hosts.fetch((loss, state.frozen_at))
        seconds = time.perf_counter() - began
        before, running = running, frozen_at == RUNNING
        last = step + 1 == plan.num_steps
        due = running.any() and (last or (step + 1) % plan.heldout_every == 0)
        heldout = evaluate(state, params) if due else None
        metrics = StepMetrics(
            step=step + 1,
            train_losses=_of_running(seeds, running, loss),
            frozen=[seed for k, seed in enumerate(seeds) if before[k] and not running[k]],
            heldout=_of_running(seeds, running, heldout.members) if heldout else None,
            fused=heldout.fused if heldout else None,
            seconds=seconds,
        )
        report(metrics, this_batch)
        if not running.any():
            raise _all_frozen(seeds, frozen_at)
        asked = hosts.gather([stop(), cadence.due()])
        stopped = any(stop_here for stop_here, _ in asked)
        if last or stopped or asked[0][1]:
            cadence.saved_in(_seconds(save, step + 1, state))
        if stopped:
            break
    return state


class _Cadence:
    """Checkpoints by time: rare enough that they cost little, often enough to lose little."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._saving, self._last = seconds, 0.0, time.monotonic()

    def due(self) -> bool:
        wait = max(self._seconds, SAVING_SHARE * self._saving if self._seconds else 0)
        return time.monotonic() - self._last >= wait

    def saved_in(self, seconds: float) -> None:
        self._saving, self._last = seconds, time.monotonic()


def _seconds(function: Callable, *arguments: Any) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def _of_running(seeds: tuple[int, ...], running: np.ndarray, values: np.ndarray) -> dict:
    return {seed: float(values[k]) for k, seed in enumerate(seeds) if running[k]}


def _all_frozen(seeds: tuple[int, ...], frozen_at: np.ndarray) -> UserError:
    when = ", ".join(f"seed {s} at step {at}" for s, at in zip(seeds, frozen_at, strict=True))
    return UserError(
        f"no seed is left to train: loss or gradient stopped being finite for {when}; a lower "
        "--learning-rate usually mends it, with another --out"
    )

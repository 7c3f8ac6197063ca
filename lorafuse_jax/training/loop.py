"""The loop around the step: batches in, metrics out, checkpoints kept; it may stop anywhere."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lorafuse_jax.training.step import Member, TrainState
from lorafuse_jax.types import Params, UserError


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """What is known of one seed after one step; a line of ``metrics.jsonl``.

    Attributes:
        step: steps taken, from 1.
        seed: the seed's integer.
        train_loss: mean loss of this step's answer tokens, nats.
        heldout_loss: mean loss of the validation answer tokens, nats; None between evaluations.
        tokens_per_s: real tokens a second over all seeds, padding not counted.
    """

    step: int
    seed: int
    train_loss: float
    heldout_loss: float | None
    tokens_per_s: float

    def to_dict(self) -> dict:
        """JSON-able, without what is absent."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@runtime_checkable
class Batches(Protocol):
    """Where batches come from: a function of the step alone, so a resumed run gets the same."""

    def batch(self, step: int) -> Any:
        """Arrays with the seed axis first."""
        ...

    def tokens(self, step: int) -> int:
        """Real tokens of that step over all seeds."""
        ...


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """When ``fit`` does what, in steps."""

    num_steps: int
    heldout_every: int
    checkpoint_every: int


def fit(
    state: TrainState,
    params: Params,
    *,
    seeds: tuple[int, ...],
    plan: FitPlan,
    step_fn: Callable,
    batches: Batches,
    member: Member,
    heldout_loss: Callable[[TrainState, Params], np.ndarray],
    save: Callable[[int, TrainState], None],
    report: Callable[[list[StepMetrics]], None],
) -> TrainState:
    """Train from ``state.step`` to ``plan.num_steps``.

    Args:
        state: fresh or restored; it is donated, use the returned one.
        params: base weights.
        seeds: the integers, for the metrics.
        plan: when to evaluate and save; the last step always does both.
        step_fn: from ``make_train_step``.
        batches: the data; the next batch is prepared while a step runs.
        member: what is each seed's own, leaves [S].
        heldout_loss: loss [S] on validation.
        save: keeps a checkpoint; called before ``report`` sees a later step.
        report: takes the metrics of one step, one entry a seed.

    Raises:
        UserError: the loss of a seed is not finite; the last checkpoint is still there.
    """
    start = int(state.step[0])
    batch = batches.batch(start) if start < plan.num_steps else None
    for step in range(start, plan.num_steps):
        began = time.perf_counter()
        state, loss = step_fn(state, params, batch, member)
        if step + 1 < plan.num_steps:
            batch = batches.batch(step + 1)
        loss = np.asarray(loss)
        elapsed = time.perf_counter() - began
        _check_finite(loss, seeds, step + 1)
        last = step + 1 == plan.num_steps
        due = last or (step + 1) % plan.heldout_every == 0
        heldout = heldout_loss(state, params) if due else None
        report(
            [
                StepMetrics(
                    step=step + 1,
                    seed=seed,
                    train_loss=float(loss[k]),
                    heldout_loss=None if heldout is None else float(heldout[k]),
                    tokens_per_s=batches.tokens(step) / elapsed,
                )
                for k, seed in enumerate(seeds)
            ]
        )
        if last or (step + 1) % plan.checkpoint_every == 0:
            save(step + 1, state)
    return state


def _check_finite(loss: np.ndarray, seeds: tuple[int, ...], step: int) -> None:
    bad = [seed for seed, value in zip(seeds, loss, strict=True) if not np.isfinite(value)]
    if bad:
        raise UserError(
            f"the loss of seed {', '.join(map(str, bad))} is not finite at step {step}; a lower "
            "--learning-rate usually mends it (the last checkpoint is kept)"
        )

"""The parts of a training run, put together: model, batches, optimiser, step, held-out loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import optax

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.data.batches import full_batches
from lorafuse_jax.data.loader import Loader
from lorafuse_jax.lora import adaptable_modules, init_adapter, match_rules
from lorafuse_jax.models.hub import Model
from lorafuse_jax.training.loop import FitPlan, Heldout
from lorafuse_jax.training.objective import answer_loss, heldout_loss
from lorafuse_jax.training.step import (
    Member,
    TrainState,
    adamw,
    init_state,
    make_train_step,
    seed_keys,
)
from lorafuse_jax.types import Params, UserError
from lorafuse_jax.workflow.fused_loss import fused_heldout_loss
from lorafuse_jax.workflow.inputs import EncodedTask
from lorafuse_jax.workflow.train_config import TrainConfig

CHECKPOINT_SECONDS = 300.0
"""Work that is lost at most, besides a step, when a process is killed."""

STREAMS: dict[str, int] = {"init": 1, "order": 2, "dropout": 3}
HELDOUT_ROWS = 4


@dataclass(frozen=True)
class Trainer:
    """The parts of one run, put together and not yet started."""

    config: TrainConfig
    model: Model
    loader: Loader
    plan: FitPlan
    tx: optax.GradientTransformation
    step_fn: Callable
    heldout: Callable
    fused: Callable | None

    def fresh_state(self) -> TrainState:
        """The state before the first step."""
        keys = seed_keys(self.config.stream_seeds("init"), STREAMS["init"])
        init = partial(init_adapter, params=self.model.params, rules=self.config.rules)
        return init_state(keys, init, self.tx)

    def member(self) -> Member:
        """What is each seed's own."""
        config = self.config
        return Member(
            learning_rate=jnp.full(len(config.seeds), config.learning_rate),
            dropout_key=seed_keys(config.stream_seeds("dropout"), STREAMS["dropout"]),
        )

    def evaluate(self, state: TrainState, params: Params) -> Heldout:
        """Losses on validation, of the members and of the fused adapter."""
        fused = self.fused(state, params) if self.fused else None
        return Heldout(self.heldout(state, params), fused)


def make_trainer(config: TrainConfig, model: Model, task: EncodedTask) -> Trainer:
    """Everything that training needs; all that can be wrong with the input is found here."""
    rules = config.rules
    match_rules(adaptable_modules(model.params), rules)
    examples = config.examples or len(task.train)
    num_steps = max(1, examples // config.examples_per_step)
    loader = Loader(
        task.train,
        order_seeds=config.stream_seeds("order"),
        examples_per_step=config.examples_per_step,
        num_steps=num_steps,
    )
    tx = adamw(num_steps=num_steps, warmup_steps=round(0.05 * num_steps))

    def log_probs(adapter, params, batch, dropout_key):
        return batch_log_probs(
            model.config, params, adapter, batch, rules=rules, dropout_key=dropout_key
        )

    every = config.fuse_every or max(1, num_steps // 3)
    _check_evaluations(config, every, num_steps)
    validation = full_batches(
        task.validation[: config.heldout_examples], loader.shape.length, HELDOUT_ROWS
    )
    trainer = Trainer(
        config=config,
        model=model,
        loader=loader,
        plan=FitPlan(
            num_steps=num_steps, heldout_every=every, checkpoint_seconds=CHECKPOINT_SECONDS
        ),
        tx=tx,
        step_fn=make_train_step(answer_loss(log_probs), tx),
        heldout=heldout_loss(log_probs, validation),
        fused=None,
    )
    if config.fuse_every is None:
        return trainer
    stacked = jax.eval_shape(trainer.fresh_state).adapter
    fused = fused_heldout_loss(config.fuse_operator, model, rules, validation, stacked)
    return replace(trainer, fused=fused)


def _check_evaluations(config: TrainConfig, every: int, num_steps: int) -> None:
    count = -(-num_steps // every)
    wanted = config.average_last
    if wanted is not None and wanted > count:
        raise UserError(
            f"--average-last {wanted}: there are only {count} evaluations in {num_steps} steps; "
            "a lower --fuse-every makes more"
        )

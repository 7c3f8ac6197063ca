"""The parts of a training run, put together: model, batches, optimiser, step, held-out loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import optax

from lorafuse_jax.data.batches import full_batches
from lorafuse_jax.data.loader import Loader
from lorafuse_jax.models.hub import Model
from lorafuse_jax.training.loop import FitPlan, Heldout
from lorafuse_jax.training.lora_plus import lora_plus
from lorafuse_jax.training.objective import answer_loss, heldout_loss
from lorafuse_jax.training.step import (
    Member,
    TrainState,
    adamw,
    make_train_step,
    seed_keys,
    state_of,
)
from lorafuse_jax.types import Params, UserError
from lorafuse_jax.workflow.fused_loss import fused_heldout_loss
from lorafuse_jax.workflow.inputs import EncodedTask
from lorafuse_jax.workflow.method import Method
from lorafuse_jax.workflow.method_full import dense_method, full_method
from lorafuse_jax.workflow.method_lora import dora_method, lora_method
from lorafuse_jax.workflow.placement import ONE_DEVICE, PlacedBatches, Placement
from lorafuse_jax.workflow.train_config import TrainConfig

CHECKPOINT_SECONDS = 300.0
"""Work that is lost at most, besides a step, when a process is killed."""

DROPOUT_STREAM = 3
HELDOUT_ROWS = 4

METHODS = {"lora": lora_method, "dora": dora_method, "dense": dense_method, "full": full_method}


@dataclass(frozen=True)
class Trainer:
    """The parts of one run, put together and not yet started."""

    config: TrainConfig
    model: Model
    method: Method
    loader: Loader
    plan: FitPlan
    tx: optax.GradientTransformation
    step_fn: Callable
    heldout: Callable
    fused: Callable | None
    placement: Placement

    def fresh_state(self) -> TrainState:
        """The state before the first step."""
        state = state_of(self.method.fresh(), self.tx)
        return self.placement.trained(self.model.config, state)

    def member(self) -> Member:
        """What is each seed's own."""
        return self.placement.of_seeds(member_of(self.config, self.method))

    def batches(self) -> PlacedBatches:
        """What each step trains on."""
        return PlacedBatches(self.loader, self.placement)

    def evaluate(self, state: TrainState, params: Params) -> Heldout:
        """Losses on validation, of the members and of the fused adapter."""
        with self.placement.active():
            fused = self.fused(state) if self.fused else None
            return Heldout(self.heldout(state, params), fused)


def member_of(config: TrainConfig, method: Method) -> Member:
    """What is each seed's own."""
    return Member(
        learning_rate=jnp.array(config.learning_rates),
        dropout_key=seed_keys(config.stream_seeds("dropout"), DROPOUT_STREAM),
        scale=method.scale,
    )


def step_of(
    config: TrainConfig, model: Model, method: Method, placement: Placement, num_steps: int
) -> tuple[optax.GradientTransformation, jax.stages.Wrapped]:
    """One seed's optimiser, and the jitted step of all seeds."""
    tx = optax.chain(
        adamw(num_steps=num_steps, warmup_steps=round(0.05 * num_steps)),
        lora_plus(config.lora_plus),
    )
    state = None
    if placement.mesh is not None:
        state = placement.trained_shardings(model.config, state_shapes(method, tx))
    step = make_train_step(
        answer_loss(method.log_probs),
        tx,
        seeds_per_pass=config.seeds_per_pass,
        state_shardings=state,
    )
    return tx, step


def state_shapes(method: Method, tx: optax.GradientTransformation) -> TrainState:
    """Of a fresh state, which is not made."""
    return jax.eval_shape(lambda: state_of(method.fresh(), tx))


def make_trainer(
    config: TrainConfig, model: Model, task: EncodedTask, placement: Placement = ONE_DEVICE
) -> Trainer:
    """Everything that training needs; all that can be wrong with the input is found here."""
    method = METHODS[config.method](config, model)
    examples = config.examples or round(config.subset * len(task.train))
    num_steps = max(1, examples // config.examples_per_step)
    loader = Loader(
        task.train,
        order_seeds=config.stream_seeds("order"),
        examples_per_step=config.examples_per_step,
        num_steps=num_steps,
        micro_batches=config.micro_batches,
        parts=placement.parts,
        subset=config.subset,
        subset_seeds=config.stream_seeds("subset"),
    )
    tx, step_fn = step_of(config, model, method, placement, num_steps)
    every = config.fuse_every or max(1, num_steps // 3)
    _check_evaluations(config, every, num_steps)
    validation = placement.shared(
        full_batches(task.validation[: config.heldout_examples], loader.shape.length, HELDOUT_ROWS)
    )
    member = placement.of_seeds(member_of(config, method))
    trainer = Trainer(
        config=config,
        model=model,
        method=method,
        loader=loader,
        plan=FitPlan(
            num_steps=num_steps, heldout_every=every, checkpoint_seconds=CHECKPOINT_SECONDS
        ),
        tx=tx,
        step_fn=step_fn,
        heldout=heldout_loss(method.log_probs, validation, member),
        fused=None,
        placement=placement,
    )
    if config.fuse_every is None:
        return trainer
    stacked = jax.eval_shape(method.fresh)
    assert method.update is not None  # TrainConfig refuses the others
    fused = fused_heldout_loss(config.fuse_operator, model, method.update, validation, stacked)
    return replace(trainer, fused=fused)


def _check_evaluations(config: TrainConfig, every: int, num_steps: int) -> None:
    count = -(-num_steps // every)
    wanted = config.average_last
    if wanted is not None and wanted > count:
        raise UserError(
            f"--average-last {wanted}: there are only {count} evaluations in {num_steps} steps; "
            "a lower --fuse-every makes more"
        )

"""The very step of training, with shapes in place of arrays: to be compiled and not to be run."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from lorafuse_jax.data.batches import BatchShape, empty
from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.filling import nested
from lorafuse_jax.models.hub import Model
from lorafuse_jax.models.placing import plan_params
from lorafuse_jax.models.quantized import Quantization
from lorafuse_jax.models.weights import parameter_shapes
from lorafuse_jax.training.step import TrainState
from lorafuse_jax.types import Params
from lorafuse_jax.workflow.placement import ONE_DEVICE, Placement, said_where
from lorafuse_jax.workflow.train_config import TrainConfig
from lorafuse_jax.workflow.trainer import METHODS, member_of, state_shapes, step_of

NUM_STEPS = 1000
"""Of the run; it decides over the schedule's numbers alone."""


@dataclass(frozen=True)
class ShapedStep:
    """A step and all that it takes.

    Attributes:
        step: jitted, ``step(state, base, batch, member)``.
        arguments: those four, of shapes with the shardings that training gives its arrays.
        model: its parameters are shapes too.
        placement: the mesh.
    """

    step: jax.stages.Wrapped
    arguments: tuple[Any, Params, Any, Any]
    model: Model
    placement: Placement

    def trace(self) -> jax.stages.Traced:
        """On the mesh; nothing of it is computed or put anywhere."""
        with self.placement.active():
            return self.step.trace(*self.arguments)

    def lower(self) -> jax.stages.Lowered:
        """As the compiler gets it."""
        with self.placement.active():
            return self.trace().lower()


def shaped_step(
    config: TrainConfig, model: Model, placement: Placement, length: int, losses: int
) -> ShapedStep:
    """The step of a run whose batches are full.

    Args:
        config: of the run; every example is a row of its own.
        model: see ``shaped_model``.
        placement: where things lie; its devices may be described ones.
        length: T, tokens of an example.
        losses: of these, how many have a loss.
    """
    method = METHODS[config.method](config, model)
    tx, step = step_of(config, model, method, placement, NUM_STEPS)
    state = state_shapes(method, tx)
    member = jax.eval_shape(lambda: member_of(config, method))
    rows = config.examples_per_step // config.micro_batches // placement.parts
    leading = (len(config.seeds), config.micro_batches, placement.parts)
    batch = jax.eval_shape(lambda: empty(leading, BatchShape(rows, length, rows * losses)))
    arguments = (
        placement.trained(model.config, state, said_where),
        method.base,
        placement.batch(batch, said_where),
        placement.of_seeds(member, said_where),
    )
    return ShapedStep(step, arguments, model, placement)


def seed_shapes(config: TrainConfig, model: Model) -> TrainState:
    """Of adapters and optimiser of all seeds of a configuration."""
    method = METHODS[config.method](config, model)
    return state_shapes(method, step_of(config, model, method, ONE_DEVICE, NUM_STEPS)[0])


def shaped_model(
    name: str,
    family: ModuleType,
    config: DecoderConfig,
    placement: Placement,
    *,
    dtype: Any = jnp.bfloat16,
    quantization: Quantization | None = None,
) -> Model:
    """A model whose parameters are shapes, laid out as loading would.

    Args:
        name: for messages.
        family: module of ``models.families``.
        config: gives the shapes.
        placement: where they would lie.
        dtype: of the weights.
        quantization: of the kernels in the layers.
    """
    shardings = placement.base_shardings(config, quantization is not None)
    plan = plan_params(parameter_shapes(config), dtype, quantization, shardings)

    def one(path: str) -> Any:
        shapes = plan[path].shapes()
        sharding = plan[path].sharding
        return said_where(shapes, jax.tree.map(lambda _: sharding, shapes))

    params = nested({path: one(path) for path in plan})
    return Model(config, params, None, Path(name), "", (), family)

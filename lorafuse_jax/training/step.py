"""One seed's training step, written first; then vmapped over seeds, then jitted with donation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from lorafuse_jax.types import Adapter, Params


class TrainState(NamedTuple):
    """What a step changes; every leaf has the seed axis first.

    Attributes:
        step: number of optimiser steps taken.
        adapter: the trained tree, without its scale.
        opt_state: optimiser moments and counts.
    """

    step: Int[Array, " S"]
    adapter: Adapter
    opt_state: optax.OptState


LossFn = Callable[[Adapter, Params, Any, Any], Array]
"""``(adapter, params, batch, dropout_key)`` -> one seed's loss, a scalar."""


def adamw(
    *, learning_rate: float, num_steps: int, warmup_steps: int, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """AdamW after clipping to global norm 1; linear warm-up, then a cosine to a tenth.

    It is used inside the vmap over seeds, so norms are of one seed and no seed touches another.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup_steps else learning_rate,
        peak_value=learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(num_steps, warmup_steps + 1),
        end_value=learning_rate / 10,
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=weight_decay)
    )


def seed_keys(seeds: Sequence[int], stream: int) -> Key[Array, " S"]:
    """One key a seed, folded from the seed's own integer alone; ``stream`` tells uses apart."""
    return jnp.stack([jax.random.fold_in(jax.random.key(seed), stream) for seed in seeds])


def init_state(
    keys: Key[Array, " S"],
    init_adapter: Callable[[Key[Array, ""]], Adapter],
    tx: optax.GradientTransformation,
) -> TrainState:
    """Fresh adapters and optimiser states, one a key."""

    def one_seed(key):
        adapter = init_adapter(key)
        return TrainState(jnp.zeros((), jnp.int32), adapter, tx.init(adapter))

    # Not jitted: one program with a random generator for every module takes XLA long to compile.
    return jax.vmap(one_seed)(keys)


def make_train_step(loss_fn: LossFn, tx: optax.GradientTransformation) -> jax.stages.Wrapped:
    """The jitted step of all seeds.

    Returns:
        ``step(state, params, batch, dropout_keys) -> (state, loss [S])``. ``batch`` has the seed
        axis first, ``params`` has none: the base is held once and never batched. ``state`` is
        donated: after the call the one that was passed in is gone.
    """

    def one_seed(state: TrainState, params: Params, batch: Any, key: Key[Array, ""]):
        dropout_key = jax.random.fold_in(key, state.step)
        loss, grads = jax.value_and_grad(loss_fn)(state.adapter, params, batch, dropout_key)
        updates, opt_state = tx.update(grads, state.opt_state, state.adapter)
        adapter = optax.apply_updates(cast(Any, state.adapter), updates)
        return TrainState(state.step + 1, cast(Adapter, adapter), opt_state), loss

    return jax.jit(jax.vmap(one_seed, in_axes=(0, None, 0, 0)), donate_argnums=0)

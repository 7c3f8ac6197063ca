"""One seed's training step, written first; then vmapped over seeds, then jitted with donation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from lorafuse_jax.parallel.inside import axis_size
from lorafuse_jax.parallel.mesh import DATA, SEED
from lorafuse_jax.types import Params

RUNNING = -1
"""``TrainState.frozen_at`` of a seed that goes on."""


class TrainState(NamedTuple):
    """What a step changes; every leaf has the seed axis first.

    Attributes:
        step: number of optimiser steps taken.
        frozen_at: the step, from 1, whose loss or gradient was not finite; from then on the seed
            stays as it was before that step. ``RUNNING`` while there was none.
        adapter: the trained tree, without its scale: an adapter, or all parameters.
        opt_state: optimiser moments and counts.
    """

    step: Int[Array, " S"]
    frozen_at: Int[Array, " S"]
    adapter: Any
    opt_state: optax.OptState


class Member(NamedTuple):
    """What is a seed's own and stays; every leaf has the seed axis first.

    Attributes:
        learning_rate: what the optimiser's updates are multiplied by.
        dropout_key: what the dropout of each step is folded from; None drops nothing.
        scale: module path -> what its low-rank update is multiplied by; not of trained trees that
            have no such scale.
    """

    learning_rate: Float[Array, " S"]
    dropout_key: Key[Array, " S"] | None
    scale: dict[str, Float[Array, " S"]] | None = None


LossFn = Callable[[Any, Params, Any, Member], tuple[Array, Array]]
"""``(trained, params, micro_batch, member)`` -> one seed's loss as a weighted sum, and the sum of
the weights: what is minimised is their ratio over all micro-batches of a step. The dropout key in
``member`` is that of the micro-batch."""


def adamw(
    *, num_steps: int, warmup_steps: int, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """AdamW after clipping to global norm 1; linear warm-up to 1, then a cosine to a tenth.

    The step multiplies by each seed's learning rate. It is used inside the vmap over seeds, so
    norms are of one seed and no seed touches another.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup_steps else 1.0,
        peak_value=1.0,
        warmup_steps=warmup_steps,
        decay_steps=max(num_steps, warmup_steps + 1),
        end_value=0.1,
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=weight_decay)
    )


def seed_keys(seeds: Sequence[int], stream: int) -> Key[Array, " S"]:
    """One key a seed, folded from the seed's own integer alone; ``stream`` tells uses apart."""
    return jnp.stack([jax.random.fold_in(jax.random.key(seed), stream) for seed in seeds])


def init_state(
    keys: Key[Array, " S"],
    init_adapter: Callable[[Key[Array, ""]], Any],
    tx: optax.GradientTransformation,
) -> TrainState:
    """Fresh adapters and optimiser states, one a key."""
    # Not jitted: one program with a random generator for every module takes XLA long to compile.
    return state_of(jax.vmap(init_adapter)(keys), tx)


def state_of(stacked: Any, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step, of trained trees with the seed axis first."""

    def one_seed(trained):
        return TrainState(jnp.int32(0), jnp.int32(RUNNING), trained, tx.init(trained))

    return jax.vmap(one_seed)(stacked)


def make_train_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    seeds_per_pass: int | None = None,
    state_shardings: Any = None,
) -> jax.stages.Wrapped:
    """The jitted step of all seeds.

    A seed whose loss or gradient is not finite is frozen as it was; the others do not notice.

    Args:
        loss_fn: one seed's loss on one micro-batch.
        tx: one seed's optimiser, for a learning rate of 1.
        seeds_per_pass: how many seeds are computed at once, the others after them, for less memory;
            None is all.
        state_shardings: of the state that is given, and so of the one that is returned: XLA would
            choose others, for which the next call is compiled anew. None on one device.

    Returns:
        ``step(state, params, batch, member) -> (state, loss [S])``. ``batch`` has the seed axis
        first, then micro-batches, one after the other, then the parts of each that lie on different
        devices; gradients of all are added. ``params`` has no such axes: the base is held once and
        never batched. ``state`` is donated: after the call the one that was passed in is gone.
    """

    def one_seed(state: TrainState, params: Params, batch: Any, member: Member):
        if member.dropout_key is not None:
            member = member._replace(dropout_key=jax.random.fold_in(member.dropout_key, state.step))
        loss, grads = _loss_and_gradient(loss_fn, state.adapter, params, batch, member)
        updates, opt_state = tx.update(grads, state.opt_state, state.adapter)
        updates = jax.tree.map(lambda update: update * member.learning_rate, updates)
        adapter = optax.apply_updates(state.adapter, updates)
        moved = TrainState(state.step + 1, state.frozen_at, adapter, opt_state)
        return _moved_or_frozen(state, moved, jnp.isfinite(loss) & _all_finite(grads)), loss

    every_seed = partial(jax.vmap, in_axes=(0, None, 0, 0), spmd_axis_name=SEED)

    def step(state: TrainState, params: Params, batch: Any, member: Member):
        ways = axis_size(SEED)
        at_once = max(1, (seeds_per_pass or state.step.shape[0]) // ways)
        if at_once * ways >= state.step.shape[0]:
            return every_seed(one_seed)(state, params, batch, member)

        def own_seeds(state, params, batch, member):
            return jax.lax.map(
                lambda own: one_seed(own[0], params, *own[1:]),
                (state, batch, member),
                batch_size=at_once,
            )

        # Each device goes through its own seeds: [S] is [ways, S / ways] where it lies.
        parted = jax.tree.map(
            lambda leaf: leaf.reshape(ways, -1, *leaf.shape[1:]), (state, batch, member)
        )
        result = every_seed(own_seeds)(parted[0], params, *parted[1:])
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), result)

    return jax.jit(step, donate_argnums=0, out_shardings=(state_shardings, None))


def _loss_and_gradient(
    loss_fn: LossFn, adapter: Any, params: Params, batch: Any, member: Member
) -> tuple[Array, Any]:
    """Of the weighted mean over all micro-batches, one after the other."""
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    count, parts = jax.tree.leaves(batch)[0].shape[:2]

    def one_part(number: Any, part: Any):
        own = member
        if member.dropout_key is not None:
            own = member._replace(dropout_key=jax.random.fold_in(member.dropout_key, number))
        (total, weight), grads = value_and_grad(adapter, params, part, own)
        return total, weight, grads

    def one(number: Any, micro_batch: Any):
        if parts == 1:
            return one_part(number, jax.tree.map(lambda leaf: leaf[0], micro_batch))
        # Gradients are added after all layers, so that devices speak once a step and not a layer.
        each = jax.vmap(one_part, spmd_axis_name=DATA)
        return jax.tree.map(
            partial(jnp.sum, axis=0), each(number * parts + jnp.arange(parts), micro_batch)
        )

    if count == 1:
        sums = one(0, jax.tree.map(lambda leaf: leaf[0], batch))
    else:

        def add(sums, numbered):
            return jax.tree.map(jnp.add, sums, one(*numbered)), None

        nothing = (jnp.float32(0), jnp.float32(0), jax.tree.map(jnp.zeros_like, adapter))
        sums, _ = jax.lax.scan(add, nothing, (jnp.arange(count), batch))
    total, weight, grads = sums
    weight = jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)
    return total / weight, jax.tree.map(lambda grad: grad / weight, grads)


def _all_finite(tree: Any) -> Array:
    # A sum of squares is finite only if every entry is: one pass that fuses with clipping's.
    return jnp.isfinite(optax.global_norm(tree))


def _moved_or_frozen(old: TrainState, new: TrainState, finite: Array) -> TrainState:
    frozen_at = jnp.where((old.frozen_at == RUNNING) & ~finite, old.step + 1, old.frozen_at)
    runs = frozen_at == RUNNING
    kept = jax.tree.map(lambda n, o: jnp.where(runs, n, o), new, old)
    return kept._replace(step=new.step, frozen_at=frozen_at)

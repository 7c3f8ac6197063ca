"""The held-out loss of the seeds fused as they are now, while they train."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.adapter import stack
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.models.hub import Model
from lorafuse_jax.parallel import hosts
from lorafuse_jax.training.objective import heldout_loss
from lorafuse_jax.training.step import RUNNING, Member, TrainState
from lorafuse_jax.types import Adapter, UserError


def fused_heldout_loss(
    operator: str,
    model: Model,
    update: Callable[[Any, int], Adapter],
    batches: list,
    stacked: Adapter,
) -> Callable[[TrainState], float]:
    """The loss of the fused adapter on the batches that the members' is measured on.

    Seeds that are frozen are left out. The operator has its default settings and, where it is
    stochastic, the same key every time. An entry-wise operator makes the dense deltas of all
    modules: as much memory again as the adapted part of the base in float32.

    Args:
        operator: a name that ``fusion.get_operator`` knows.
        model: configuration, and the weights that updates are added to.
        update: what a seed's trained tree adds to them, given its number.
        batches: without a seed axis.
        stacked: shapes of what is trained, leaves [S, L, ...].

    Returns:
        ``state -> loss``, nats per answer token.

    Raises:
        UserError: no such operator, or it cannot fuse these members; found from shapes alone.
    """
    op = get_operator(operator)
    if op.statistic is not None:
        raise UserError(f"{op.name} needs {op.statistic} and cannot fuse while training")
    key = jax.random.key(0) if op.stochastic else None

    def fuse(trained: Any, running: tuple[int, ...]) -> Adapter:
        of_seed = lambda k: update(jax.tree.map(lambda leaf: leaf[k], trained), k)  # noqa: E731
        fused = op(stack([of_seed(k) for k in running]), key=key)
        return jax.tree.map(lambda leaf: leaf[None], fused)

    everyone = tuple(range(jax.tree.leaves(stacked)[0].shape[0]))
    jax.eval_shape(partial(fuse, running=everyone), stacked)

    def log_probs(adapter, params, batch, member):
        return batch_log_probs(model.config, params, adapter, batch, rules=())

    fuse_jitted = jax.jit(fuse, static_argnames="running")
    loss = heldout_loss(log_probs, batches, Member(jnp.ones(1), None))

    def of(state: TrainState) -> float:
        running = np.flatnonzero(hosts.fetch(state.frozen_at) == RUNNING)
        fused = fuse_jitted(state.adapter, running=tuple(running.tolist()))
        return float(loss(state._replace(adapter=fused), model.params)[0])

    return of

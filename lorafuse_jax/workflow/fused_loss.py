"""The held-out loss of the seeds fused as they are now, while they train."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.lora import LoraRule, scaled
from lorafuse_jax.models.hub import Model
from lorafuse_jax.training.objective import heldout_loss
from lorafuse_jax.training.step import RUNNING, TrainState
from lorafuse_jax.types import Adapter, Params, UserError


def fused_heldout_loss(
    operator: str, model: Model, rules: Sequence[LoraRule], batches: list, stacked: Adapter
) -> Callable[[TrainState, Params], float]:
    """The loss of the fused adapter on the batches that the members' is measured on.

    Seeds that are frozen are left out. The operator has its default settings and, where it is
    stochastic, the same key every time. An entry-wise operator makes the dense deltas of all
    modules: as much memory again as the adapted part of the base in float32.

    Args:
        operator: a name that ``fusion.get_operator`` knows.
        model: gives the configuration.
        rules: the scale of the members.
        batches: without a seed axis.
        stacked: shapes of the members, leaves [S, L, ...].

    Returns:
        ``(state, params) -> loss``, nats per answer token.

    Raises:
        UserError: no such operator, or it cannot fuse these members; found from shapes alone.
    """
    op = get_operator(operator)
    if op.statistic is not None:
        raise UserError(f"{op.name} needs {op.statistic} and cannot fuse while training")
    key = jax.random.key(0) if op.stochastic else None

    def fuse(members: Adapter) -> Adapter:
        fused = op(scaled(members, rules), key=key)
        return jax.tree.map(lambda leaf: leaf[None], fused)

    jax.eval_shape(fuse, stacked)

    def log_probs(adapter, params, batch, dropout_key):
        return batch_log_probs(model.config, params, adapter, batch, rules=())

    fuse_jitted, loss = jax.jit(fuse), heldout_loss(log_probs, batches)

    def of(state: TrainState, params: Params) -> float:
        runs = jnp.asarray(np.flatnonzero(np.asarray(state.frozen_at) == RUNNING))
        fused = fuse_jitted(jax.tree.map(lambda leaf: leaf[runs], state.adapter))
        return float(loss(state._replace(adapter=fused), params)[0])

    return of

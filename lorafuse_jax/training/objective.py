"""The loss on answers, for one seed, and per example where evaluation wants it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lorafuse_jax.parallel import hosts
from lorafuse_jax.parallel.mesh import DATA, SEED
from lorafuse_jax.training.step import LossFn, Member, TrainState
from lorafuse_jax.types import Params

LogProbs = Callable[[Any, Params, Any, Member], Float[Array, " M"]]
"""``(trained, params, batch, member)`` -> log-probability of each loss token; without a dropout key
in ``member`` nothing is dropped."""


def answer_loss(log_probs: LogProbs) -> LossFn:
    """Minus the log-probability of answer tokens, nats: weighted sum, and sum of weights."""

    def loss(trained, params, batch, member):
        weighted = log_probs(trained, params, batch, member) * batch.loss_weight
        return -weighted.sum(), batch.loss_weight.sum()

    return loss


def seed_totals(log_probs: LogProbs) -> jax.stages.Wrapped:
    """The jitted loss of every seed on one batch, summed over its answer tokens, without dropout.

    Args:
        log_probs: as for training; ``member`` has no dropout key.

    Returns:
        ``(trained, params, batch, member) -> total [S]``, nats; ``batch`` has leaves [G, ...].
    """

    def total(trained, params, batch, member):
        def of_part(part):
            return -(log_probs(trained, params, part, member) * part.loss_weight).sum()

        if len(batch.tokens) == 1:
            return of_part(jax.tree.map(lambda leaf: leaf[0], batch))
        return jax.vmap(of_part, spmd_axis_name=DATA)(batch).sum()

    return jax.jit(jax.vmap(total, in_axes=(0, None, None, 0), spmd_axis_name=SEED))


def heldout_loss(
    log_probs: LogProbs, batches: list, member: Member
) -> Callable[[TrainState, Params], np.ndarray]:
    """The loss of every seed on the same held-out batches, without dropout.

    Args:
        log_probs: as for training.
        batches: leaves [G, ...], without a seed axis; the G parts may lie on different devices.
        member: what is each seed's own.

    Returns:
        ``(state, params) -> loss [S]``, a mean over all their answer tokens.
    """
    totals = seed_totals(log_probs)
    member = member._replace(dropout_key=None)
    tokens = sum(float(jnp.sum(batch.loss_weight)) for batch in batches)

    def loss(state: TrainState, params: Params) -> np.ndarray:
        sums = [totals(state.adapter, params, batch, member) for batch in batches]
        return np.sum(hosts.fetch(sums), axis=0) / tokens

    return loss

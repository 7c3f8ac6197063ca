"""The loss on answers, for one seed, and per example where evaluation wants it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from lorafuse_jax.training.step import LossFn, TrainState
from lorafuse_jax.types import Adapter, Params

LogProbs = Callable[[Adapter, Params, Any, Any], Float[Array, " M"]]
"""``(adapter, params, batch, dropout_key or None)`` -> log-probability of each loss token."""


def answer_loss(log_probs: LogProbs) -> LossFn:
    """Minus the log-probability of answer tokens, nats: weighted sum, and sum of weights."""

    def loss(adapter, params, batch, dropout_key):
        weighted = log_probs(adapter, params, batch, dropout_key) * batch.loss_weight
        return -weighted.sum(), batch.loss_weight.sum()

    return loss


def heldout_loss(log_probs: LogProbs, batches: list) -> Callable[[TrainState, Params], np.ndarray]:
    """The loss of every seed on the same held-out batches, without dropout.

    Args:
        log_probs: as for training.
        batches: without a seed axis.

    Returns:
        ``(state, params) -> loss [S]``, a mean over all their answer tokens.
    """

    def total(adapter, params, batch):
        return -(log_probs(adapter, params, batch, None) * batch.loss_weight).sum()

    totals = jax.jit(jax.vmap(total, in_axes=(0, None, None)))
    tokens = sum(float(batch.loss_weight.sum()) for batch in batches)

    def loss(state: TrainState, params: Params) -> np.ndarray:
        return np.sum([totals(state.adapter, params, batch) for batch in batches], axis=0) / tokens

    return loss

"""The loss of an adapter on validation examples, one adapter after the other."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lorafuse_jax.adapted import batch_log_probs, parameter_log_probs
from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.data.batches import numbered_batches
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.models.hub import Model
from lorafuse_jax.types import Adapter, Params

ROWS = 4
"""Of packed examples that are computed together."""


class ValidationLoss:
    """Losses of adapters over one base.

    Adapters are added to a base in float32, and one program serves them all. Over another base
    they stay apart, and there is a program for each kind and rank.

    Attributes:
        tokens: with a loss, of each example [E].
    """

    def __init__(self, model: Model, examples: Sequence[Encoded]) -> None:
        """Pack the examples.

        Args:
            model: the base.
            examples: one or more.
        """
        self._model = model
        self._numbered = numbered_batches(examples, 1, ROWS)
        self.tokens = np.array([float(example.loss_weight.sum()) for example in examples])
        most = max(len(numbers) for numbers, _ in self._numbered)
        leaves = jax.tree.leaves(model.params)
        self._merges = all(leaf.dtype == jnp.float32 for leaf in leaves)

        def by_example(log_probs: Any, batch: Any) -> Any:
            losses = -log_probs * batch.loss_weight
            return jax.ops.segment_sum(losses, batch.loss_example, num_segments=most)

        def merged(params, batch):
            return by_example(parameter_log_probs(model.config, params, params, batch), batch)

        def apart(params, adapter, batch):
            log_probs = batch_log_probs(model.config, params, adapter, batch, rules=())
            return by_example(log_probs, batch)

        self._merged, self._apart = jax.jit(merged), jax.jit(apart)

    @property
    def batches(self) -> list[Any]:
        """The packed examples, all of one shape."""
        return [batch for _, batch in self._numbered]

    def losses(self, adapter: Adapter) -> Float[np.ndarray, " E"]:
        """Of each example, nats summed over its tokens with a loss.

        Args:
            adapter: leaves [L, ...], with the decoder's module paths.
        """
        losses = np.zeros(len(self.tokens))
        params = merge_into(self._model.params, adapter) if self._merges else self._model.params
        for numbers, batch in self._numbered:
            extra = () if self._merges else (adapter,)
            program = self._merged if self._merges else self._apart
            losses[numbers] = np.asarray(program(params, *extra, batch))[: len(numbers)]
        return losses

    def mean(self, losses: Float[np.ndarray, " E"]) -> float:
        """Nats a token."""
        return float(losses.sum() / self.tokens.sum())

    def of_batch(self, adapter: Adapter, data: tuple[Any, Params]) -> Any:
        """Nats a token of one batch, over base weights; to be differentiated in the adapter."""
        batch, params = data
        log_probs = batch_log_probs(self._model.config, params, adapter, batch, rules=())
        return -(log_probs * batch.loss_weight).sum() / batch.loss_weight.sum()

"""Fisher averaging and RegMean of a group: what they need to know is measured on training data.

Fisher information is as large as the adapted kernels, Gram matrices are I x I for every projection,
both for every member: for models of some hundred million parameters, not for billions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.areas.members import GroupMembers
from lorafuse_jax.adapted import batch_log_probs, input_grams
from lorafuse_jax.adapter import take
from lorafuse_jax.data.batches import BatchShape, pack
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.fusion.learned.fisher import fisher_information
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_files, for_model
from lorafuse_jax.types import Adapter
from lorafuse_jax.workflow.run_examples import examples_of_run


def fisher(group: GroupMembers, model: Model, count: int, settings: Mapping[str, Any]) -> Adapter:
    """Each entry weighted by the member's own Fisher information (arXiv 2111.09832).

    Args:
        group: the members.
        model: their base.
        count: of training examples, the first ones.
        settings: of the operator.

    Returns:
        With Hugging Face's module paths.
    """
    examples = examples_of_run(group.run, model, "train", count)
    shape = BatchShape(1, max(e.length for e in examples), max(e.num_losses for e in examples))
    data = [(pack([example], shape), model.params) for example in examples]

    def log_likelihood(adapter: Adapter, example: Any) -> Any:
        batch, params = example
        log_probs = batch_log_probs(model.config, params, adapter, batch, rules=())
        return (log_probs * batch.loss_weight).sum()

    def of_member(adapter: Adapter) -> dict[str, Any]:
        own = fisher_information(log_likelihood, for_model(adapter, model), data)
        return for_files(own, model)

    return _fused("fisher", group, of_member, settings)


def regmean(group: GroupMembers, model: Model, count: int, settings: Mapping[str, Any]) -> Adapter:
    """The map nearest to each member's on that member's own inputs (arXiv 2212.09849).

    Args:
        group: the members.
        model: their base.
        count: of training examples, the first ones.
        settings: of the operator.

    Returns:
        With Hugging Face's module paths.
    """
    tokens, counted = _padded(examples_of_run(group.run, model, "train", count))

    def of_member(adapter: Adapter) -> dict[str, Any]:
        return input_grams(model, adapter, tokens, counted)

    return _fused("regmean", group, of_member, settings)


def _fused(
    name: str,
    group: GroupMembers,
    of_member: Callable[[Adapter], dict[str, Any]],
    settings: Mapping[str, Any],
) -> Adapter:
    stacked = group.members.stacked
    each = [of_member(take(stacked, member)) for member in range(len(group.members.names))]
    statistic = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    return get_operator(name)(stacked, statistic=statistic, **settings)


def _padded(examples: Sequence[Encoded]) -> tuple[jax.Array, jax.Array]:
    """Tokens, a row an example, and which of them are no padding."""
    tokens = np.zeros((len(examples), max(example.length for example in examples)), np.int32)
    for row, example in zip(tokens, examples, strict=True):
        row[: example.length] = example.tokens
    lengths = np.array([example.length for example in examples])
    return jnp.asarray(tokens), jnp.asarray(np.arange(tokens.shape[1]) < lengths[:, None])

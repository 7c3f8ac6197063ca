"""Weights learned by gradient through the fusion, on validation data."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from lorafuse_jax.adapter import num_members
from lorafuse_jax.fusion.operator import Operator
from lorafuse_jax.types import Adapter, UserError

WeightScope = Literal["adapter", "module", "layer"]
"""One weight a member, or one a member and module, or one a member, module and layer."""


class LearnedWeights(NamedTuple):
    """Weights and how they were found.

    Attributes:
        weights: module -> [L, S] for scope ``layer``, else [S].
        adapter: the operator's result with them.
        losses: of the batch of each step, before it, [steps].
    """

    weights: dict[str, Array]
    adapter: Adapter
    losses: Float[Array, " steps"]


def learn_weights(
    op: Operator,
    stacked: Adapter,
    loss: Callable[[Adapter, Any], Float[Array, ""]],
    batches: Sequence[Any],
    *,
    steps: int = 100,
    learning_rate: float = 0.01,
    scope: WeightScope = "module",
    key: Key[Array, ""] | None = None,
    **settings: Any,
) -> LearnedWeights:
    """Descend a validation loss in the weights of the members, from 1/S each.

    Source: arXiv:2410.13025 (LoRA Soups, CAT: a weight a member and layer on the concatenation),
    for any operator. As there the weights are free: they may be negative and need not sum to one.

    Args:
        op: an operator that treats modules alone.
        stacked: leaves [S, L, ...].
        loss: of an adapter on a batch of validation data; jitted here.
        batches: all of one shape, taken in turns.
        steps: of Adam.
        learning_rate: of Adam; weights start at 1/S.
        scope: what has weights of its own.
        key: for a stochastic operator; the same in every step.
        **settings: hyper-parameters of the operator.

    Raises:
        UserError: there are no batches, or the operator mixes layers and the scope is ``layer``.
    """
    if not batches:
        raise UserError("learn_weights needs at least one batch of validation data")
    if scope == "layer" and not op.layerwise:
        raise UserError(f"{op.name} mixes layers: it cannot have weights for each; scope=module")
    extra = settings if key is None else settings | {"key": key}
    fuse = partial(fuse_weighted, op, stacked, **extra)
    tx = optax.adam(learning_rate)

    @jax.jit
    def step(weights: dict[str, Array], state: optax.OptState, batch: Any) -> tuple:
        value, gradient = jax.value_and_grad(lambda w: loss(fuse(w), batch))(weights)
        updates, state = tx.update(gradient, state)
        return optax.apply_updates(weights, updates), state, value

    weights = _initial_weights(stacked, scope)
    state = tx.init(weights)
    losses = []
    for number in range(steps):
        weights, state, value = step(weights, state, batches[number % len(batches)])
        losses.append(value)
    return LearnedWeights(_by_module(weights, stacked), jax.jit(fuse)(weights), jnp.stack(losses))


def fuse_weighted(
    op: Operator, stacked: Adapter, weights: dict[str, Array], **arguments: Any
) -> Adapter:
    """The operator with weights of its own for every module, or every layer.

    Args:
        op: the operator.
        stacked: leaves [S, L, ...].
        weights: module -> [S] or [L, S]; a single entry ``""`` is for all modules.
        **arguments: key and hyper-parameters.
    """
    fused: Adapter = {}
    for module, own in _by_module(weights, stacked).items():
        alone = {module: stacked[module]}
        if own.ndim == 1:
            fused[module] = op(alone, weights=own, **arguments)[module]
            continue
        layers = [
            op(jax.tree.map(lambda x, at=at: x[:, at : at + 1], alone), weights=w, **arguments)
            for at, w in enumerate(own)
        ]
        parts = [layer[module] for layer in layers]
        fused[module] = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return fused


def _initial_weights(stacked: Adapter, scope: WeightScope) -> dict[str, Array]:
    members = num_members(stacked)
    equal = jnp.full(members, 1 / members)
    if scope == "adapter":
        return {"": equal}
    if scope == "module":
        return dict.fromkeys(stacked, equal)
    return {
        module: jnp.broadcast_to(equal, (update[0].shape[1], members))
        for module, update in stacked.items()
    }


def _by_module(weights: dict[str, Array], stacked: Adapter) -> dict[str, Array]:
    return dict.fromkeys(stacked, weights[""]) if "" in weights else weights

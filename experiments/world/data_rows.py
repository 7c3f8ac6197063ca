"""Rows that look at data besides the adapters: Fisher, RegMean, learned weights, greedy soup."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.world.answers import Questions
from experiments.world.measure import Exam, soups
from lorafuse_jax.adapted import input_grams
from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.fusion import OPERATORS
from lorafuse_jax.fusion.learned.fisher import fisher_information
from lorafuse_jax.fusion.learned.learn_weights import learn_weights
from lorafuse_jax.models.decoder import hidden_states
from lorafuse_jax.models.head import token_log_probs
from lorafuse_jax.models.hub import Model
from lorafuse_jax.types import Adapter

FISHER_EXAMPLES, GRAM_EXAMPLES = 32, 128
BATCH, STEPS = 32, 60
"""Of the learned weights: validation questions a step, and steps of Adam."""


def data_rows(
    model: Model, groups: Sequence[Adapter], train: Questions, validation: Exam
) -> dict[str, list[Adapter]]:
    """Row -> an adapter a group; information from training data, weights from validation data."""
    return {
        "fisher": _fisher(model, groups, train),
        "regmean": _regmean(model, groups, train),
        "learned weights": _learned(model, groups, validation.questions),
        "greedy soup": soups(validation, groups),
    }


def _likelihood(model: Model, adapter: Adapter, asked: Any) -> Float[Array, ""]:
    """Of all answer tokens, nats; ``asked`` is tokens, places, targets, counted."""
    tokens, places, targets, counted = asked
    hidden = hidden_states(model.config, merge_into(model.params, adapter), tokens)
    hidden = jnp.take_along_axis(hidden, places[..., None], axis=1)
    flat = hidden.reshape(-1, hidden.shape[-1])
    log_probs = token_log_probs(model.config, model.params, flat, targets.reshape(-1))
    return (log_probs * counted.reshape(-1)).sum()


def _some(questions: Questions, start: int, count: int) -> tuple[np.ndarray, ...]:
    stop = start + count
    return tuple(leaf[start:stop] for leaf in questions[:4])


def _fisher(model: Model, groups: Sequence[Adapter], train: Questions) -> list[Adapter]:
    examples = [_some(train, number, 1) for number in range(FISHER_EXAMPLES)]
    log_likelihood = lambda adapter, asked: _likelihood(model, adapter, asked)  # noqa: E731
    one = lambda member: fisher_information(log_likelihood, member, examples)  # noqa: E731
    information = jax.jit(lambda group: jax.lax.map(one, group))
    return [OPERATORS["fisher"](group, statistic=information(group)) for group in groups]


def _regmean(model: Model, groups: Sequence[Adapter], train: Questions) -> list[Adapter]:
    tokens = jnp.asarray(train.tokens[:GRAM_EXAMPLES])
    last = (train.places * train.counted).max(axis=1)[:GRAM_EXAMPLES]
    counted = jnp.arange(tokens.shape[1]) <= last[:, None]
    one = lambda member: input_grams(model, member, tokens, counted)  # noqa: E731
    grams = jax.jit(lambda group: jax.lax.map(one, group))
    return [OPERATORS["regmean"](group, statistic=grams(group)) for group in groups]


def _learned(model: Model, groups: Sequence[Adapter], validation: Questions) -> list[Adapter]:
    """Concatenation with a learned weight a member and layer (LoRA Soups' CAT)."""
    count = len(validation.tokens)
    size = min(BATCH, count)
    batches = [_some(validation, at, size) for at in range(0, count - size + 1, size)]

    def loss(adapter: Adapter, asked: Any) -> Float[Array, ""]:
        return -_likelihood(model, adapter, asked) / asked[3].sum()

    return [
        learn_weights(OPERATORS["mean"], group, loss, batches, steps=STEPS, scope="layer").adapter
        for group in groups
    ]

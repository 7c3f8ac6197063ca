"""The loss: packed as alone, of answers, weighted; held out as in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.data.batches import BatchShape
from lorafuse_jax.lora import LoraRule, init_adapter
from lorafuse_jax.models.decoder import hidden_states
from lorafuse_jax.training.objective import answer_loss, heldout_loss
from lorafuse_jax.training.step import adamw, init_state, seed_keys
from tests.tiny import tiny_params
from tests.training.given import (
    CONFIG,
    RULES,
    SEEDS,
    WITHOUT_DROPOUT,
    chats,
    examples,
    log_probs,
    member,
    packed,
)


@pytest.mark.parametrize("kind", [examples, chats])
def test_packed_loss_and_gradient_equal_those_of_examples_alone(kind):
    params = tiny_params(CONFIG)
    rules = (LoraRule(rank=3),)
    some = kind(8)
    adapter = init_adapter(jax.random.key(0), params, rules)
    adapter = jax.tree.map(lambda leaf: leaf + 0.05, adapter)

    def total(adapter, batch):
        weighted = batch_log_probs(CONFIG, params, adapter, batch, rules=rules) * batch.loss_weight
        return weighted.sum()

    alone = [packed([one], BatchShape(1, 16, 8)) for one in some]
    slope_of = jax.jit(jax.value_and_grad(total))
    value, slope = slope_of(adapter, packed(some, BatchShape(3, 32, 50)))
    parts = [slope_of(adapter, batch) for batch in alone]
    np.testing.assert_allclose(value, sum(part[0] for part in parts), rtol=1e-5)
    for mine, *others in zip(jax.tree.leaves(slope), *(jax.tree.leaves(p[1]) for p in parts)):  # noqa: B905
        np.testing.assert_allclose(mine, sum(others), atol=1e-3, rtol=1e-3)
    weightless = [number for number, one in enumerate(some) if not one.num_losses]
    assert len(weightless) == (kind is chats)
    for number in weightless:
        assert parts[number][0] == 0
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(parts[number][1]))


def test_loss_is_the_mean_over_answer_tokens_in_plain_softmax():
    params = tiny_params(CONFIG)
    one = examples(3, count=1)[0]
    batch = packed([one], BatchShape(1, 16, 8))
    adapter = init_adapter(jax.random.key(0), params, RULES)
    total, weight = answer_loss(log_probs)(adapter, params, batch, WITHOUT_DROPOUT)
    from_torch = plain_answer_loss(params, one)
    np.testing.assert_allclose(total / weight, from_torch, rtol=1e-5)


def test_loss_of_weighted_chats_is_the_weighted_mean_over_their_answers_in_plain_softmax():
    params = tiny_params(CONFIG)
    some = chats(4)
    adapter = init_adapter(jax.random.key(0), params, RULES)
    total, weight = answer_loss(log_probs)(
        adapter, params, packed(some, BatchShape(2, 40, 40)), WITHOUT_DROPOUT
    )
    sums = [plain_sums(params, one) for one in some]
    np.testing.assert_allclose(weight, sum(part for _, part in sums), rtol=1e-6)
    expected = sum(part for part, _ in sums) / sum(part for _, part in sums)
    np.testing.assert_allclose(total / weight, expected, rtol=1e-5)


def plain_answer_loss(params, example):
    total, weight = plain_sums(params, example)
    return total / weight


def plain_sums(params, example):
    """Weighted sum of the losses of one example, and the sum of the weights."""
    hidden = hidden_states(CONFIG, params, jnp.asarray(example.tokens)[None])[0]
    logits = np.asarray(hidden @ params["embed_tokens"]["embedding"].T, np.float64)
    total = weights = 0.0
    for row, token, weight in zip(
        logits, example.tokens[1:], example.loss_weight[1:], strict=False
    ):
        total += weight * (np.log(np.exp(row - row.max()).sum()) + row.max() - row[token])
        weights += weight
    return total, weights


def test_heldout_loss_is_the_training_loss_without_dropout():
    params = tiny_params(CONFIG)
    tx = adamw(num_steps=2, warmup_steps=0)
    state = init_state(seed_keys(SEEDS, 1), lambda key: init_adapter(key, params, RULES), tx)
    batches = [packed(examples(n), BatchShape(4, 24, 40)) for n in range(2)]
    stack = lambda *some: jax.tree.map(lambda *leaves: jnp.stack(leaves), *some)  # noqa: E731
    one_by_one = [stack(batch) for batch in batches]
    measured = heldout_loss(log_probs, one_by_one, member(SEEDS, 1.0))(state, params)
    at_once = heldout_loss(log_probs, [stack(*batches)], member(SEEDS, 1.0))(state, params)
    np.testing.assert_allclose(at_once, measured, rtol=1e-6)
    sums = sum(
        float(
            (
                log_probs(
                    {k: type(v)(*(x[0] for x in v)) for k, v in state.adapter.items()},
                    params,
                    batch,
                    WITHOUT_DROPOUT,
                )
                * batch.loss_weight
            ).sum()
        )
        for batch in batches
    )
    tokens = sum(float(batch.loss_weight.sum()) for batch in batches)
    np.testing.assert_allclose(measured[0], -sums / tokens, rtol=1e-5)

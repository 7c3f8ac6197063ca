"""The vmapped step: each seed as if it were trained alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.data.batches import BatchShape
from lorafuse_jax.lora import LoraRule, init_adapter
from lorafuse_jax.training.objective import answer_loss
from lorafuse_jax.training.step import (
    Member,
    adamw,
    init_state,
    make_train_step,
    seed_keys,
    state_of,
)
from tests.tiny import tiny_config, tiny_params
from tests.training.given import (
    CONFIG,
    RULES,
    SEEDS,
    examples,
    log_probs,
    member,
    packed,
    stacked_batch,
)

STEPS = 4
ALONE_TOLERANCE = 2e-5
"""Alone, XLA sums in another order than stacked, so float32 rounding differs by about 1e-7 a step;
Adam divides small gradients by their own size, which lifts that to about 1e-6 in four steps."""


def train(seeds, data_seeds=None, params=None):
    params = tiny_params(CONFIG) if params is None else params
    tx = adamw(num_steps=STEPS, warmup_steps=1)
    step_fn = make_train_step(answer_loss(log_probs), tx)
    state = init_state(seed_keys(seeds, 1), lambda key: init_adapter(key, params, RULES), tx)
    losses = []
    for step in range(STEPS):
        batch = stacked_batch(step, data_seeds or seeds)
        state, loss = step_fn(state, params, batch, member(seeds, 1e-2))
        losses.append(np.asarray(loss))
    return state, np.array(losses)


@pytest.fixture(scope="module")
def together():
    return train(SEEDS)


def test_stacked_seeds_equal_each_seed_alone(together):
    state, losses = together
    for k, seed in enumerate(SEEDS):
        alone, alone_losses = train((seed,))
        np.testing.assert_allclose(losses[:, k], alone_losses[:, 0], rtol=ALONE_TOLERANCE)
        for mine, other in zip(
            jax.tree.leaves(state.adapter), jax.tree.leaves(alone.adapter), strict=True
        ):
            np.testing.assert_allclose(mine[k], other[0], atol=ALONE_TOLERANCE)


def test_changing_one_seeds_data_leaves_the_others_bitwise(together):
    state, _ = together
    changed, _ = train(SEEDS, data_seeds=(11, 42, 999))
    for mine, other in zip(jax.tree.leaves(state), jax.tree.leaves(changed), strict=True):
        np.testing.assert_array_equal(mine[:2], other[:2])
    lora_b = state.adapter["layers/mlp/up_proj"].lora_b
    assert np.abs(lora_b[2] - changed.adapter["layers/mlp/up_proj"].lora_b[2]).max() > 1e-4


def test_seeds_differ_and_learn(together):
    state, _ = together
    leaves = jax.tree.leaves(state.adapter)
    assert all(np.abs(leaf[0] - leaf[1]).max() > 1e-4 for leaf in leaves)
    assert (state.step == STEPS).all()


def test_training_overfits_one_batch():
    params = tiny_params(CONFIG)
    tx = adamw(num_steps=80, warmup_steps=4)
    rules = (LoraRule(rank=8),)

    def plain(adapter, params, batch, member):
        return batch_log_probs(CONFIG, params, adapter, batch, rules=rules)

    step_fn = make_train_step(answer_loss(plain), tx)
    state = init_state(seed_keys((1, 2), 1), lambda key: init_adapter(key, params, rules), tx)
    batch = stacked_batch(0, (5, 5))
    losses = []
    for _ in range(80):
        state, loss = step_fn(state, params, batch, member((1, 2), 3e-2))
        losses.append(np.asarray(loss))
    assert (losses[-1] < 0.3 * losses[0]).all()


def test_clipping_is_per_seed():
    """A seed with a huge gradient must not shrink another's."""
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))

    def loss(adapter, params, batch, member):
        return (adapter["m"] * batch).sum(), jnp.ones(())

    step_fn = make_train_step(loss, tx)
    state = init_state(seed_keys((1, 2), 1), lambda key: {"m": jnp.zeros(4)}, tx)
    batch = jnp.stack([jnp.full(4, 1e6), jnp.full(4, 0.1)])[:, None, None]
    state, _ = step_fn(state, {}, batch, member((1, 2), 1.0))
    np.testing.assert_allclose(jnp.linalg.norm(state.adapter["m"][0]), 1.0, rtol=1e-5)
    np.testing.assert_allclose(state.adapter["m"][1], -0.1, rtol=1e-5)


def test_base_is_not_batched_by_the_step():
    """No product in the compiled step has the seeds' axis on a base weight."""
    params = tiny_params(CONFIG)
    tx = adamw(num_steps=2, warmup_steps=0)
    step_fn = make_train_step(answer_loss(log_probs), tx)
    state = init_state(seed_keys(SEEDS, 1), lambda key: init_adapter(key, params, RULES), tx)
    lowered = step_fn.lower(state, params, stacked_batch(0, SEEDS), member(SEEDS, 1e-2)).as_text()
    kernel = params["layers"]["mlp"]["gate_proj"]["kernel"]
    assert f"tensor<{'x'.join(map(str, kernel.shape))}xf32>" in lowered
    assert f"tensor<3x{'x'.join(map(str, kernel.shape))}xf32>" not in lowered
    assert f"tensor<3x{'x'.join(map(str, kernel.shape[1:]))}xf32>" not in lowered


def moved(step_fn, batch, params, tx, seeds=SEEDS):
    state = init_state(seed_keys(seeds, 1), lambda key: init_adapter(key, params, RULES), tx)
    return step_fn(state, params, batch, member(seeds, 1e-2))


def test_step_of_plain_descent_is_the_gradient_of_the_mean_loss_times_the_rate():
    """Adam and clipping hide a gradient's size; plain descent shows it."""
    params, tx, seeds = tiny_params(CONFIG), optax.sgd(1.0), SEEDS[:1]
    start = init_state(seed_keys(seeds, 1), lambda key: init_adapter(key, params, RULES), tx)
    before = jax.tree.map(lambda leaf: leaf[0], start.adapter)
    batch = stacked_batch(0, seeds)

    def plain(adapter, params, batch, member):
        return batch_log_probs(CONFIG, params, adapter, batch, rules=RULES)

    def mean_loss(adapter):
        one = jax.tree.map(lambda leaf: leaf[0, 0, 0], batch)
        weighted = plain(adapter, params, one, None) * one.loss_weight
        return -weighted.sum() / one.loss_weight.sum()

    slope = jax.jit(jax.grad(mean_loss))(before)
    after, _ = moved(make_train_step(answer_loss(plain), tx), batch, params, tx, seeds)
    for old, new, grad in zip(*map(jax.tree.leaves, (before, after.adapter, slope)), strict=True):
        np.testing.assert_allclose(new[0], old - 1e-2 * grad, atol=1e-6)
    assert max(np.abs(grad).max() for grad in jax.tree.leaves(slope)) > 1e-3


@pytest.mark.parametrize("axis", [0, 1])
def test_micro_batches_and_parts_add_up_to_the_step_of_one_batch(axis):
    params, tx = tiny_params(CONFIG), optax.sgd(1.0)

    def plain(adapter, params, batch, member):
        return batch_log_probs(CONFIG, params, adapter, batch, rules=RULES)

    step_fn = make_train_step(answer_loss(plain), tx)
    shape = BatchShape(4, 24, 40)
    some = [examples(seed) for seed in SEEDS]
    whole = [[packed(mine, shape)] for mine in some]
    dealt = [[packed(mine[:2], shape), packed(mine[2:], shape)] for mine in some]
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731
    other_axis = lambda tree: jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1 - axis), tree)  # noqa: E731
    in_parts = lambda batches: other_axis(stack(batches))  # noqa: E731
    (one, loss), (two, dealt_loss) = (
        moved(step_fn, stack([in_parts(batches) for batches in each]), params, tx)
        for each in (whole, dealt)
    )
    np.testing.assert_allclose(loss, dealt_loss, rtol=1e-5)
    for mine, other in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-4)


def test_every_seed_step_micro_batch_and_part_has_its_own_dropout():
    """The gradient is the random number that each draws, so one that is shared is drawn twice."""
    seeds, micro_batches, parts = (1, 2), 2, 3

    def drawn(trained, params, batch, own):
        return trained * jax.random.uniform(own.dropout_key) * batch, jnp.float32(1)

    step_fn = make_train_step(drawn, optax.sgd(1.0))
    keys = seed_keys(seeds, 3)
    found = []
    for number in range(micro_batches * parts):
        state = state_of(jnp.zeros(len(seeds)), optax.sgd(1.0))
        one = jnp.zeros(micro_batches * parts).at[number].set(1.0)
        batch = jnp.broadcast_to(one.reshape(micro_batches, parts), (2, micro_batches, parts))
        for _ in range(2):
            before = np.asarray(state.adapter)
            state, _ = step_fn(state, {}, batch, Member(jnp.ones(len(seeds)), keys))
            found += (before - np.asarray(state.adapter)).tolist()
    assert min(found) > 0
    assert len(np.unique(np.round(found, 6))) == len(seeds) * 2 * micro_batches * parts


@pytest.mark.parametrize("seeds_per_pass", [1, 2])
def test_seeds_in_passes_equal_all_at_once(seeds_per_pass):
    params, tx = tiny_params(CONFIG), optax.sgd(1.0)
    batch = stacked_batch(0, SEEDS)
    (all_at_once, loss), (in_passes, passed_loss) = (
        moved(make_train_step(answer_loss(log_probs), tx, seeds_per_pass=n), batch, params, tx)
        for n in (None, seeds_per_pass)
    )
    np.testing.assert_allclose(loss, passed_loss, rtol=1e-5)
    for mine, other in zip(jax.tree.leaves(all_at_once), jax.tree.leaves(in_passes), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-4)


def test_seed_without_a_finite_gradient_is_frozen_and_the_others_do_not_notice():
    params = tiny_params(CONFIG)
    tx = adamw(num_steps=STEPS, warmup_steps=0)
    step_fn = make_train_step(answer_loss(log_probs), tx)
    fresh = lambda: init_state(  # noqa: E731
        seed_keys(SEEDS, 1), lambda key: init_adapter(key, params, RULES), tx
    )
    poisoned = stacked_batch(1, SEEDS)
    weight = poisoned.loss_weight.at[1].multiply(jnp.inf)
    poisoned = poisoned._replace(loss_weight=weight)
    runs = []
    for second in (stacked_batch(1, SEEDS), poisoned):
        state, after = fresh(), []
        for batch in (stacked_batch(0, SEEDS), second, stacked_batch(2, SEEDS)):
            state, loss = step_fn(state, params, batch, member(SEEDS, 1e-2))
            after.append(jax.device_get(state.adapter))
        runs.append((jax.device_get(state), after, loss))
    (healthy, _, _), (state, after, _) = runs
    assert state.frozen_at.tolist() == [-1, 2, -1]
    assert healthy.frozen_at.tolist() == [-1, -1, -1]
    for mine, other in zip(jax.tree.leaves(state), jax.tree.leaves(healthy), strict=True):
        np.testing.assert_array_equal(np.asarray(mine)[[0, 2]], np.asarray(other)[[0, 2]])
    for first, last in zip(jax.tree.leaves(after[0]), jax.tree.leaves(after[2]), strict=True):
        np.testing.assert_array_equal(first[1], last[1])
        assert np.isfinite(last).all()


def test_policies_give_one_gradient_and_keep_as_much_as_they_say():
    config = tiny_config(num_layers=6, model_dim=32, ffn_dim=96, head_dim=8)
    params, rules = tiny_params(config), (LoraRule(rank=3),)
    adapter = jax.tree.map(lambda leaf: leaf + 0.02, init_adapter(jax.random.key(0), params, rules))
    batch = packed(examples(5, count=24), BatchShape(8, 48, 200))

    def slope_of(remat):
        def total(adapter):
            scored = batch_log_probs(config, params, adapter, batch, rules=rules, remat=remat)
            return (scored * batch.loss_weight).sum()

        compiled = jax.jit(jax.grad(total)).lower(adapter).compile()
        return compiled(adapter), compiled.memory_analysis().temp_size_in_bytes

    found = {remat: slope_of(remat) for remat in ("nothing", "projections", "layers")}
    reference = jax.tree.leaves(found["nothing"][0])
    for slope, _ in found.values():
        for mine, other in zip(jax.tree.leaves(slope), reference, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3 * np.abs(other).max())
    kept = [kept for _, kept in found.values()]
    assert kept[0] > 1.2 * kept[1] and kept[1] > 1.2 * kept[2], kept

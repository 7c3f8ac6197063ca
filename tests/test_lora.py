import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax import bank as bank_module
from lorafuse_jax.adapter import to_delta
from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.bank import bank_hook, make_bank
from lorafuse_jax.lora import (
    LoraRule,
    adapter_hook,
    check_fits,
    init_adapter,
    scaled,
)
from lorafuse_jax.models.decoder import hidden_states
from lorafuse_jax.types import LoraPair, UserError
from tests.tiny import random_adapter, random_dense, tiny_config, tiny_params

ROUNDING = 2e-5
"""Two orders of summation in float32, over two layers of width 16 with activations of about 1."""


@pytest.fixture
def config():
    return tiny_config()


@pytest.fixture
def params(config):
    return tiny_params(config)


@pytest.fixture
def tokens(config):
    return jnp.asarray(np.random.default_rng(3).integers(0, config.vocab_size, (3, 11)))


def run(config, params, tokens, hook=None):
    return jax.jit(lambda p, t: hidden_states(config, p, t, hook=hook))(params, tokens)


def test_init_adapter_spec_is_one_pair_a_projection(params):
    adapter = init_adapter(jax.random.key(0), params, [LoraRule(rank=5)])
    shapes = {module: (pair.lora_a.shape, pair.lora_b.shape) for module, pair in adapter.items()}
    assert shapes == {
        "layers/mlp/down_proj": ((2, 24, 5), (2, 5, 16)),
        "layers/mlp/gate_proj": ((2, 16, 5), (2, 5, 24)),
        "layers/mlp/up_proj": ((2, 16, 5), (2, 5, 24)),
        "layers/self_attn/k_proj": ((2, 16, 5), (2, 5, 8)),
        "layers/self_attn/o_proj": ((2, 16, 5), (2, 5, 16)),
        "layers/self_attn/q_proj": ((2, 16, 5), (2, 5, 16)),
        "layers/self_attn/v_proj": ((2, 16, 5), (2, 5, 8)),
    }


def test_fresh_adapter_gives_base_bitwise(config, params, tokens):
    adapter = init_adapter(jax.random.key(0), params, [LoraRule()])
    base = run(config, params, tokens)
    np.testing.assert_array_equal(base, run(config, params, tokens, adapter_hook(adapter)))


@pytest.mark.parametrize("make", [random_adapter, random_dense])
def test_adapter_equals_merged_weights_and_differs_from_base(config, params, tokens, make):
    adapter = make(params, seed=7)
    adapted = run(config, params, tokens, adapter_hook(adapter))
    merged = run(config, merge_into(params, adapter), tokens)
    np.testing.assert_allclose(adapted, merged, atol=ROUNDING, rtol=ROUNDING)
    assert np.abs(adapted - run(config, params, tokens)).max() > 100 * ROUNDING


def test_gradients_equal_those_of_plain_products(config, params, tokens):
    adapter = random_adapter(params, seed=5)

    def loss(adapter, through_delta):
        tree = to_delta(adapter) if through_delta else adapter
        hidden = hidden_states(config, params, tokens, hook=adapter_hook(tree))
        return (hidden**2).mean()

    ours, plain = (jax.grad(loss)(adapter, flag) for flag in (False, True))
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5, rtol=1e-3)
        assert np.abs(other).max() > 1e-4


@pytest.mark.parametrize("joint_rows", [0, 100])
def test_member_rows_equal_each_member_alone(config, params, tokens, monkeypatch, joint_rows):
    monkeypatch.setattr(bank_module, "JOINT_ROWS", joint_rows)
    low = [random_adapter(params, seed=s, rank=r) for s, r in enumerate((2, 2, 5))]
    some = random_adapter(params, seed=4, targets="layers/mlp/up_proj")
    adapters = [low[0], low[1], {}, random_dense(params, seed=3), some, low[2]]
    bank = make_bank(adapters)
    together = run(config, params, jnp.tile(tokens, (6, 1)), bank_hook(bank))
    for member, adapter in enumerate(adapters):
        alone = run(config, params, tokens, adapter_hook(adapter))
        rows = slice(3 * member, 3 * member + 3)
        np.testing.assert_allclose(together[rows], alone, atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 16 / 4), (True, 16 / 2)])
def test_scaled_folds_alpha_into_b(params, rslora, scale):
    rules = [LoraRule(rank=4, alpha=16.0, rslora=rslora)]
    adapter = random_adapter(params, rank=4)
    for module, pair in scaled(adapter, rules).items():
        np.testing.assert_array_equal(pair.lora_a, adapter[module].lora_a)
        np.testing.assert_allclose(pair.lora_b, adapter[module].lora_b * scale, rtol=1e-6)


def test_first_matching_rule_wins(params):
    rules = [LoraRule(targets=r".*/q_proj", rank=2), LoraRule(targets=r".*self_attn.*", rank=6)]
    adapter = init_adapter(jax.random.key(0), params, rules)
    ranks = {module.rpartition("/")[2]: pair.lora_a.shape[-1] for module, pair in adapter.items()}
    assert ranks == {"q_proj": 2, "k_proj": 6, "v_proj": 6, "o_proj": 6}


def test_dropout_changes_with_key_and_keeps_the_mean(config, params, tokens):
    rules = [LoraRule(rank=3, dropout=0.5, targets=r".*/down_proj")]
    adapter = random_adapter(params, targets=r".*/down_proj", size=0.01)

    def one(key):
        hook = adapter_hook(adapter, rules=rules, dropout_key=key)
        return hidden_states(config, params, tokens, hook=hook)

    keys = jax.random.split(jax.random.key(1), 200)
    draws = jax.jit(jax.vmap(one))(keys)
    assert np.abs(draws[0] - draws[1]).max() > 1e-4
    again = jax.jit(jax.vmap(one))(keys[:1])[0]
    np.testing.assert_allclose(draws[0], again, atol=ROUNDING, rtol=ROUNDING)
    without = run(config, params, tokens, adapter_hook(adapter))
    # 200 draws of a standard deviation below 0.05: five standard errors.
    np.testing.assert_allclose(draws.mean(0), without, atol=5 * 0.05 / np.sqrt(200))


def test_each_module_draws_from_its_own_key(params):
    few = init_adapter(jax.random.key(4), params, [LoraRule(targets=r".*/v_proj")])
    many = init_adapter(jax.random.key(4), params, [LoraRule()])
    np.testing.assert_array_equal(
        few["layers/self_attn/v_proj"].lora_a, many["layers/self_attn/v_proj"].lora_a
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "at least 1"),
        ({"dropout": 1.0}, "not a probability"),
        ({"targets": "("}, "no regular expression"),
    ],
)
def test_impossible_rule_raises(settings, message):
    with pytest.raises(UserError, match=message):
        LoraRule(**settings)


def test_rule_that_matches_nothing_lists_modules(params):
    with pytest.raises(UserError, match=r"(?s)match no module.*layers/self_attn/q_proj"):
        init_adapter(jax.random.key(0), params, [LoraRule(targets="q_proj")])


def test_check_fits_names_near_modules_and_shapes(params):
    pair = LoraPair(jnp.zeros((2, 16, 2)), jnp.zeros((2, 2, 16)))
    with pytest.raises(UserError, match=r"q_prj.*near: layers/self_attn/q_proj"):
        check_fits({"layers/self_attn/q_prj": pair}, params)
    with pytest.raises(UserError, match=r"\[2, 16, 16\].*\[2, 16, 8\]"):
        check_fits({"layers/self_attn/k_proj": pair}, params)

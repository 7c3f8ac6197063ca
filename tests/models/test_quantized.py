"""Quantised bases: the codes against the papers' definitions, and models computed with them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapted import batch_log_probs, forward
from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.assets import fetch
from lorafuse_jax.lora import LoraRule, adaptable_modules, init_adapter
from lorafuse_jax.models.decoder import hidden_states, init_params
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.models.quantized import (
    NF4,
    QUANTIZATIONS,
    dequantize,
    empty_kernel,
    is_kernel,
    quantize,
    quantize_params,
)
from lorafuse_jax.types import UserError
from tests.tiny import random_adapter, tiny_config, tiny_params, write_tiny_model


def reference(kernel, quantization):
    """By hand: the nearest storable value of each weight, in NumPy."""
    if quantization == "int8":
        scale = np.abs(kernel).max(axis=0, keepdims=True) / np.float32(127)
        return np.round(kernel / scale) * scale
    out = np.empty_like(kernel)
    for column in range(kernel.shape[1]):
        for start in range(0, len(kernel), 64):
            block = kernel[start : start + 64, column]
            scale = np.float32(np.float16(np.abs(block).max()))
            nearest = np.abs(block[:, None] / scale - NF4[None]).argmin(axis=1)
            out[start : start + 64, column] = NF4[nearest] * scale
    return out


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_each_weight_becomes_the_nearest_that_can_be_stored(quantization):
    kernel = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)
    kernel[:, 3] *= 1e-3
    stored = quantize(jnp.asarray(kernel), quantization)
    assert stored.shape == kernel.shape
    whole = dequantize(stored, jnp.float32)
    np.testing.assert_allclose(whole, reference(kernel, quantization), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_column_of_zeros_stays_zero(quantization):
    stored = quantize(jnp.zeros((64, 2)), quantization)
    np.testing.assert_array_equal(dequantize(stored, jnp.float32), 0)


@pytest.fixture(scope="module")
def params():
    return tiny_params(tiny_config())


def whole_again(params):
    layers = jax.tree.map(
        lambda node: dequantize(node, jnp.float32) if is_kernel(node) else node,
        params["layers"],
        is_leaf=is_kernel,
    )
    return params | {"layers": layers}


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_model_computes_with_the_stored_values_forward_and_backward(params, quantization):
    config, rules = tiny_config(), [LoraRule(rank=2)]
    stored = quantize_params(params, quantization)
    assert adaptable_modules(stored) == adaptable_modules(params)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 97, (2, 9)))
    adapter = random_adapter(params, rank=2)
    batch = _Batch(tokens)

    def loss(adapter, params):
        return -batch_log_probs(config, params, adapter, batch, rules=rules).mean()

    ours = jax.jit(jax.value_and_grad(loss))(adapter, stored)
    plain = jax.value_and_grad(loss)(adapter, whole_again(stored))
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    exact = hidden_states(config, params, tokens)
    assert np.abs(hidden_states(config, stored, tokens) - exact).max() > 1e-4


class _Batch:
    def __init__(self, tokens):
        self.tokens = tokens
        self.positions = jnp.tile(jnp.arange(tokens.shape[1]), (len(tokens), 1))
        self.segments = jnp.ones_like(tokens)
        self.loss_index = jnp.arange(tokens.size)
        self.loss_target = tokens.reshape(-1)


def test_nothing_of_the_whole_kernels_is_kept_for_the_backward_pass():
    """Compiled for a wider model, the memory beside the arguments is that of activations."""
    config = tiny_config(num_layers=16, model_dim=128, ffn_dim=512, head_dim=32)
    shapes = jax.eval_shape(lambda: tiny_like(config))
    stored = jax.eval_shape(partial(quantize_params, quantization="nf4"), shapes)
    adapter = jax.eval_shape(lambda p: init_adapter(jax.random.key(0), p, [LoraRule()]), shapes)
    tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)

    def loss(adapter, params, tokens):
        batch = _Batch(tokens)
        return batch_log_probs(config, params, adapter, batch, rules=[LoraRule()]).mean()

    compiled = jax.jit(jax.grad(loss)).lower(adapter, stored, tokens).compile()
    memory = compiled.memory_analysis()
    whole = sum(4 * np.prod(s) for s in adaptable_modules(shapes).values())
    assert memory.temp_size_in_bytes < 0.35 * whole


def tiny_like(config):
    return init_params(config, jax.random.key(0))


def test_a_base_of_seven_billion_weights_takes_less_than_4_2_gigabytes():
    """LLaMA2-7B's shapes; embeddings, head and norms in bfloat16."""
    config = tiny_config(
        vocab_size=32000,
        model_dim=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        head_dim=128,
        ffn_dim=11008,
        tie_embeddings=False,
    )
    stored = jax.eval_shape(lambda: quantize_params(tiny_like(config), "nf4"))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(stored["layers"]))
    size += sum(
        2 * leaf.size for name in stored if name != "layers" for leaf in stored[name].values()
    )
    assert 3.5e9 < size < 4.2e9


def test_a_folder_is_quantised_while_it_loads(tmp_path):
    folder = write_tiny_model(tmp_path / "model")
    exact = load_model(folder)
    for quantization in QUANTIZATIONS:
        loaded = load_model(folder, quantization=quantization)
        expected = quantize_params(exact.params, quantization)
        for mine, other in zip(
            jax.tree.leaves(loaded.params), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_array_equal(mine, other)


def test_quantisation_that_is_not_known_and_merging_into_it_are_refused(params, tmp_path):
    with pytest.raises(UserError, match="'fp4' is not known; int8, nf4 are"):
        load_model(tmp_path, quantization="fp4")
    with pytest.raises(UserError, match="nf4 stores pairs of input features, and a kernel has 17"):
        empty_kernel((2, 17, 4), "nf4")
    with pytest.raises(UserError, match="quantised"):
        merge_into(quantize_params(params, "nf4"), random_adapter(params))


@pytest.mark.real
@pytest.mark.parametrize(("quantization", "largest"), [("int8", 0.1), ("nf4", 0.35)])
def test_error_of_the_real_models_logits(quantization, largest):
    """Relative to their spread; measured 0.03 and 0.26 on this text."""
    folder = fetch("smollm2-135m-instruct")
    exact, stored = load_model(folder), load_model(folder, quantization=quantization)
    text = "Question: Tom has 12 apples and gives away 5. How many are left?\nAnswer: 12 - 5 = 7"
    tokens = jnp.asarray([exact.tokenizer(text)["input_ids"]])
    ours = forward(stored, stored.params, None, tokens)
    theirs = forward(exact, exact.params, None, tokens)
    error = float(jnp.sqrt(jnp.mean((ours - theirs) ** 2)) / theirs.std())
    assert 0.001 < error < largest

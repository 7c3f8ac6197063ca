"""Logits against transformers' torch models."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lorafuse_jax.adapted import forward
from lorafuse_jax.assets import fetch
from lorafuse_jax.models.cache import empty_cache
from lorafuse_jax.models.decoder import cached_hidden_states, hidden_states
from lorafuse_jax.models.families.llama import WEIGHTS, config_from_hf
from lorafuse_jax.models.head import output_logits, token_log_probs
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.models.weights import load_params
from tests.tiny import tiny_config, tiny_params

RELATIVE = 3e-5
"""Float32 sums in another order, through two layers; logits of these models reach about 50."""

REAL_ABSOLUTE = 1e-3
"""The same through thirty layers; measured 1.2e-4 on logits of up to 44."""

REAL_TEXTS = (
    "Question: A boy has 13 pencils, his sister 3 fewer. How many?\nAnswer: 13 - 3 = 10",
    "def add(a, b):\n    return a + b\n\n" * 20,
    "Über die Brücke gingen 1984 genau 27 Männer; 其余的人留在家里。",
)

ROPES = (
    {"rope_type": "default", "rope_theta": 10000.0},
    {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.5},
    {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
)


def torch_llama(seed, **changes):
    """A tiny llama in which every parameter is random, biases and norms too."""
    sizes = {
        "vocab_size": 61,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**sizes, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def our_logits(folder, tokens):
    config = config_from_hf(json.loads((folder / "config.json").read_text()))
    params = load_params(folder, config, WEIGHTS, jnp.float32)
    return output_logits(config, params, hidden_states(config, params, jnp.asarray(tokens)))


def torch_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.numpy()


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    heads=st.sampled_from([(4, 4), (4, 2), (4, 1), (6, 3)]),
    head_dim=st.sampled_from([4, 6, 10]),
    tied=st.booleans(),
    attention_bias=st.booleans(),
    mlp_bias=st.booleans(),
    rope=st.sampled_from(ROPES),
    eps=st.sampled_from([1e-6, 1e-2]),
    seed=st.integers(0, 10000),
)
def test_tiny_llama_gives_the_logits_of_transformers(
    tmp_path_factory, heads, head_dim, tied, attention_bias, mlp_bias, rope, eps, seed
):
    model = torch_llama(
        seed,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=head_dim,
        tie_word_embeddings=tied,
        attention_bias=attention_bias,
        mlp_bias=mlp_bias,
        rope_parameters=rope,
        rms_norm_eps=eps,
    )
    folder = tmp_path_factory.mktemp("llama")
    model.save_pretrained(folder)
    tokens = np.random.default_rng(seed).integers(0, 61, (2, 50))
    expected = torch_logits(model, tokens)
    ours = our_logits(folder, tokens)
    np.testing.assert_allclose(ours, expected, atol=RELATIVE * np.abs(expected).max())


def test_shards_and_half_precision_files_load(tmp_path):
    model = torch_llama(5, num_attention_heads=4, num_key_value_heads=2).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    tokens = np.random.default_rng(0).integers(0, 61, (1, 20))
    reference = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = torch_logits(reference, tokens)
    ours = our_logits(tmp_path, tokens)
    np.testing.assert_allclose(ours, expected, atol=RELATIVE * np.abs(expected).max())


def test_packed_examples_are_blind_to_each_other():
    config, rng = tiny_config(), np.random.default_rng(1)
    params = tiny_params(config)
    parts = [rng.integers(0, 97, n) for n in (5, 9, 3)]
    row = np.concatenate([*parts, np.zeros(4, int)])[None]
    segments = np.repeat([1, 2, 3, 0], [5, 9, 3, 4])[None]
    positions = np.concatenate([np.arange(5), np.arange(9), np.arange(3), np.zeros(4, int)])[None]
    row, segments, positions = map(jnp.asarray, (row, segments, positions))
    packed = hidden_states(config, params, row, positions=positions, segments=segments)[0]
    start = 0
    for part in parts:
        alone = hidden_states(config, params, jnp.asarray(part[None]))[0]
        np.testing.assert_allclose(packed[start : start + len(part)], alone, atol=2e-5)
        start += len(part)


def test_cached_steps_equal_the_whole_sequence():
    config, rng = tiny_config(), np.random.default_rng(2)
    params = tiny_params(config)
    tokens = jnp.asarray(rng.integers(0, 97, (2, 12)))
    shorter = 3  # the second row lacks its first three tokens
    present = np.ones((2, 12), bool)
    present[1, :shorter] = False
    step = jax.jit(lambda t, p, c: cached_hidden_states(config, params, t, p, c))
    hidden, cache = step(tokens[:, :7], present[:, :7], empty_cache(config, 2, 16))
    pieces = [hidden]
    for place in range(7, 12):
        at = slice(place, place + 1)
        hidden, cache = step(tokens[:, at], present[:, at], cache)
        pieces.append(hidden)
    ours = jnp.concatenate(pieces, axis=1)
    np.testing.assert_allclose(ours[0], hidden_states(config, params, tokens[:1])[0], atol=2e-5)
    second = hidden_states(config, params, tokens[1:, shorter:])[0]
    np.testing.assert_allclose(ours[1, shorter:], second, atol=2e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_chosen_log_probs_and_their_gradient_equal_plain_softmax(tied):
    config, rng = tiny_config(tie_embeddings=tied), np.random.default_rng(4)
    params = tiny_params(config)
    hidden = jnp.asarray(rng.normal(size=(300, 16)), jnp.float32)  # more than two chunks
    targets, weights = rng.integers(0, 97, 300), jnp.asarray(rng.random(300), jnp.float32)

    def ours(h):
        return (token_log_probs(config, params, h, jnp.asarray(targets)) * weights).sum()

    def plain(h):
        log_probs = jax.nn.log_softmax(output_logits(config, params, h))
        return (log_probs[jnp.arange(300), targets] * weights).sum()

    for mine, other in zip(
        jax.value_and_grad(ours)(hidden), jax.value_and_grad(plain)(hidden), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=2e-4)


@pytest.mark.real
def test_real_weights_give_the_logits_of_transformers():
    folder = fetch("smollm2-135m-instruct")
    model = load_model(folder)
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for text in REAL_TEXTS:
        tokens = [model.tokenizer(text)["input_ids"]]
        expected = torch_logits(reference, tokens)
        ours = forward(model, model.params, None, jnp.asarray(tokens))
        np.testing.assert_allclose(ours, expected, rtol=0, atol=REAL_ABSOLUTE)
        assert np.abs(expected).max() > 10

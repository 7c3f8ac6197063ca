"""What becomes of a llama's config.json."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from lorafuse_jax.models.config import LinearScaling, Llama3Scaling, Rope
from lorafuse_jax.models.families.llama import config_from_hf
from lorafuse_jax.models.rope import rope_frequencies
from lorafuse_jax.types import UserError

SINGLE = 2e-6
"""Float32 rounding of theirs, times the factor where llama3's ramp takes a difference of it."""

SIZES = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
}
LLAMA3 = {
    "factor": 8,
    "low_freq_factor": 1,
    "high_freq_factor": 4,
    "original_max_position_embeddings": 8192,
}
FACTORS = st.floats(1.0, 64.0)


def test_defaults_are_those_of_transformers():
    whole = LlamaConfig(**{key: value for key, value in SIZES.items() if key != "model_type"})
    assert config_from_hf(SIZES) == config_from_hf(whole.to_dict())
    config = config_from_hf(SIZES)
    assert (config.num_kv_heads, config.head_dim, config.rope) == (6, 8, Rope(theta=10000.0))


def test_null_means_absent():
    nothing = ("num_key_value_heads", "head_dim", "rope_scaling", "pretraining_tp", "layer_types")
    assert config_from_hf(SIZES | dict.fromkeys(nothing)) == config_from_hf(SIZES)


@pytest.mark.parametrize(
    ("keys", "rope"),
    [
        ({"rope_theta": 500}, Rope(theta=500.0)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 500}}, Rope(theta=500.0)),
        (
            {"rope_theta": 500, "rope_scaling": {"type": "linear", "factor": 4}},
            Rope(theta=500.0, scaling=LinearScaling(factor=4.0)),
        ),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 500, "factor": 4}},
            Rope(theta=500.0, scaling=LinearScaling(factor=4.0)),
        ),
        *(
            (
                keys,
                Rope(
                    theta=500.0,
                    scaling=Llama3Scaling(
                        factor=8.0,
                        low_freq_factor=1.0,
                        high_freq_factor=4.0,
                        original_context_length=8192,
                    ),
                ),
            )
            for keys in (
                {"rope_theta": 500, "rope_scaling": {"rope_type": "llama3"} | LLAMA3},
                {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500} | LLAMA3},
            )
        ),
    ],
)
def test_rope_is_read_from_transformers_4_and_5(keys, rope):
    assert config_from_hf(SIZES | keys).rope == rope


@given(
    theta=st.floats(100.0, 1e6),
    head_dim=st.sampled_from([8, 64, 128]),
    scaling=st.one_of(
        st.just({"rope_type": "default"}),
        st.fixed_dictionaries({"rope_type": st.just("linear"), "factor": FACTORS}),
        st.fixed_dictionaries(
            {
                "rope_type": st.just("llama3"),
                "factor": FACTORS,
                "low_freq_factor": st.floats(0.5, 2.0),
                "high_freq_factor": st.floats(2.5, 8.0),
                "original_max_position_embeddings": st.integers(32, 8192),
            }
        ),
    ),
)
def test_rope_frequencies_equal_those_of_transformers(theta, head_dim, scaling):
    theirs = LlamaConfig(head_dim=head_dim, rope_parameters=scaling | {"rope_theta": theta})
    expected = LlamaRotaryEmbedding(theirs).inv_freq.numpy()
    ours = rope_frequencies(config_from_hf(theirs.to_dict()).rope, head_dim)
    rtol = SINGLE * scaling.get("factor", 1.0)
    np.testing.assert_allclose(ours, expected, rtol=rtol)


def test_every_unknown_key_is_listed():
    unknown = {"sliding_window": 64, "logit_scale": 0.5, "quantization_config": {"bits": 4}}
    with pytest.raises(UserError) as caught:
        config_from_hf(SIZES | unknown)
    assert all(f"{key} = {value!r}" in str(caught.value) for key, value in unknown.items())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_act": "tanh"}, "hidden_act = .tanh. is not supported, only silu"),
        ({"pretraining_tp": 2}, "pretraining_tp = 2"),
        ({"rope_interleaved": True}, "rope_interleaved = True"),
        ({"num_key_value_heads": 4}, "6 is not a multiple of num_key_value_heads = 4"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope type 'yarn'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
        ({"rope_scaling": {"type": "linear"}}, r"settings \[\], but takes \['factor'\]"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor",
        ),
    ],
)
def test_values_that_change_the_function_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        config_from_hf(SIZES | keys)


@pytest.mark.parametrize("key", sorted(SIZES.keys() - {"model_type"}))
def test_missing_size_is_named(key):
    with pytest.raises(UserError, match=key):
        config_from_hf({name: value for name, value in SIZES.items() if name != key})

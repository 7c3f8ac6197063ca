"""Tiny random torch models of every family, with every feature switched on and off."""

import torch
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 61
KINDS = {
    "gemma2": (Gemma2Config, Gemma2ForCausalLM),
    "gemma3_text": (Gemma3TextConfig, Gemma3ForCausalLM),
    "gpt2": (GPT2Config, GPT2LMHeadModel),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
LAYERS = 3

DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.5}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
ROPES = st.sampled_from([DEFAULT_ROPE, LINEAR_ROPE, LLAMA3_ROPE])
FLAGS = st.booleans()
WINDOWS = st.sampled_from([3, 9, 64])
CAPS = st.sampled_from([None, 2.0, 30.0])
ACTIVATIONS = st.sampled_from(["silu", "gelu", "gelu_pytorch_tanh", "relu"])
LAYER_TYPES = st.none() | st.lists(
    st.sampled_from(["full_attention", "sliding_attention"]), min_size=LAYERS, max_size=LAYERS
)

SHAPES = st.fixed_dictionaries(
    {
        "vocab_size": st.just(VOCAB),
        "hidden_size": st.just(24),
        "intermediate_size": st.just(40),
        "num_hidden_layers": st.just(LAYERS),
        "max_position_embeddings": st.just(64),
        "num_attention_heads": st.just(4),
        "num_key_value_heads": st.sampled_from([4, 2, 1]),
        "head_dim": st.sampled_from([4, 6, 10]),
        "tie_word_embeddings": FLAGS,
        "rms_norm_eps": st.sampled_from([1e-6, 1e-2]),
    }
)


@st.composite
def upper_windows(draw):
    """Qwen's way to say which layers slide."""
    if not draw(FLAGS):
        return {"use_sliding_window": False, "sliding_window": 5}
    return {
        "use_sliding_window": True,
        "sliding_window": draw(WINDOWS),
        "max_window_layers": draw(st.integers(0, LAYERS)),
        "layer_types": draw(LAYER_TYPES),
    }


def _gemma(rope):
    return {
        "rope_parameters": rope,
        "attention_bias": FLAGS,
        "hidden_activation": ACTIVATIONS,
        "query_pre_attn_scalar": st.sampled_from([1, 24]),
        "sliding_window": WINDOWS,
        "layer_types": LAYER_TYPES,
        "attn_logit_softcapping": CAPS,
        "final_logit_softcapping": CAPS,
    }


FEATURES = {
    "llama": st.fixed_dictionaries(
        {
            "rope_parameters": ROPES,
            "attention_bias": FLAGS,
            "mlp_bias": FLAGS,
            "hidden_act": ACTIVATIONS,
        }
    ),
    "mistral": st.fixed_dictionaries(
        {
            "rope_parameters": ROPES,
            "sliding_window": st.none() | WINDOWS,
            "hidden_act": ACTIVATIONS,
        }
    ),
    "qwen2": st.fixed_dictionaries(
        {"rope_parameters": ROPES, "windows": upper_windows(), "hidden_act": ACTIVATIONS}
    ),
    "qwen3": st.fixed_dictionaries(
        {
            "rope_parameters": ROPES,
            "attention_bias": FLAGS,
            "windows": upper_windows(),
            "hidden_act": ACTIVATIONS,
        }
    ),
    "gemma2": st.fixed_dictionaries(_gemma(ROPES)),
    "gemma3_text": st.fixed_dictionaries(
        _gemma(st.fixed_dictionaries({"full_attention": ROPES, "sliding_attention": ROPES}))
        | {"attn_logit_softcapping": st.none()}
    ),
    "gpt2": st.fixed_dictionaries(
        {
            "vocab_size": st.just(VOCAB),
            "n_embd": st.just(24),
            "n_head": st.sampled_from([1, 2, 4]),
            "n_layer": st.just(LAYERS),
            "n_positions": st.just(64),
            "n_inner": st.none() | st.just(40),
            "activation_function": ACTIVATIONS | st.just("gelu_new"),
            "tie_word_embeddings": FLAGS,
            "layer_norm_epsilon": st.sampled_from([1e-6, 1e-2]),
        }
    ),
}


@st.composite
def drawn_settings(draw, family):
    """Keyword arguments of the family's configuration."""
    settings = {} if family == "gpt2" else draw(SHAPES)
    features = draw(FEATURES[family])
    return settings | features.pop("windows", {}) | features


def torch_model(family, seed, settings):
    """Every parameter random, biases and norms too."""
    torch.manual_seed(seed)
    config, kind = KINDS[family]
    model = kind(config(**settings, attn_implementation="eager")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


PLAIN = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
}
TYPICAL = {
    "gemma2": PLAIN | {"sliding_window": 5},
    "gemma3_text": PLAIN | {"sliding_window": 5, "sliding_window_pattern": 2},
    "gpt2": {"vocab_size": VOCAB, "n_embd": 24, "n_head": 4, "n_layer": LAYERS, "n_positions": 64},
    "llama": PLAIN,
    "mistral": PLAIN | {"sliding_window": 5},
    "qwen2": PLAIN | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": PLAIN,
}
"""One set of settings a family, with what sets it apart."""

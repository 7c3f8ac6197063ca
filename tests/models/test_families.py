"""What every family makes of a config.json: transformers' defaults, and nothing that it ignores."""

from copy import deepcopy

import pytest

from lorafuse_jax.models.families import FAMILIES
from lorafuse_jax.types import UserError
from tests.models.families import KINDS

SIZES = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 32,
}
"""No more than a config.json must have; every default number of key heads divides the heads."""

GPT2_SIZES = {"vocab_size": 61, "n_embd": 24, "n_head": 4, "n_layer": 3}
ROTARY = sorted(FAMILIES.keys() - {"gpt2"})
QWEN = ("qwen2", "qwen3")
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def sizes(family):
    return GPT2_SIZES if family == "gpt2" else SIZES


def read(family, **keys):
    return FAMILIES[family].config_from_hf({"model_type": family} | sizes(family) | keys)


def read_by_transformers(family, **keys):
    """The same keys, after transformers has filled in its defaults, and put old ones into new."""
    whole = KINDS[family][0](**sizes(family), **deepcopy(keys))
    return FAMILIES[family].config_from_hf(whole.to_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_defaults_are_those_of_transformers(family):
    assert read(family) == read_by_transformers(family)


@pytest.mark.parametrize("family", ROTARY)
@pytest.mark.parametrize(
    "keys",
    [
        {"rope_theta": 500.0},
        {"rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope_theta": 500.0, "rope_scaling": LLAMA3},
    ],
)
def test_rotary_settings_of_transformers_4_mean_what_transformers_5_makes_of_them(family, keys):
    found = read(family, **keys)
    assert found == read_by_transformers(family, **keys)
    assert found.rope.theta == 500.0


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("gemma3_text", {"rope_local_base_freq": 77.0, "rope_theta": 99.0}),
        ("gemma3_text", {"sliding_window_pattern": 2}),
        ("gemma2", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
        ("mistral", {"sliding_window": None}),
        *(
            (family, {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 9})
            for family in QWEN
        ),
    ],
)
def test_windows_are_those_of_transformers(family, keys):
    found = read(family, **keys)
    assert found == read_by_transformers(family, **keys) != read(family)


@pytest.mark.parametrize("family", ROTARY)
@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope", "proportional"])
def test_other_kinds_of_rope_scaling_are_refused(family, kind):
    with pytest.raises(UserError, match=f"rope type '{kind}' is not supported; default, linear"):
        read(family, rope_scaling={"rope_type": kind, "factor": 4.0})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pretraining_tp", 2),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("quantization_config", {"bits": 4}),
        ("num_local_experts", 8),
        ("logit_scale", 0.5),
    ],
)
def test_keys_that_change_the_function_are_refused_by_every_family(family, key, value):
    with pytest.raises(UserError, match=key):
        read(family, **{key: value})


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("llama", "sliding_window", 5),
        ("llama", "rope_interleaved", True),
        ("mistral", "attention_bias", True),
        *((family, "use_mrope", True) for family in QWEN),
        ("qwen2", "attention_bias", True),
        *((family, "use_bidirectional_attention", True) for family in ("gemma2", "gemma3_text")),
        ("gemma2", "mlp_bias", True),
        ("gemma3_text", "attn_logit_softcapping", 50.0),
        ("gemma3_text", "rope_parameters", {"rope_type": "linear", "factor": 8.0}),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "rope_theta", 10000.0),
    ],
)
def test_keys_of_other_families_are_refused(family, key, value):
    with pytest.raises(UserError, match=key):
        read(family, **{key: value})


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_that_are_not_there_are_refused(family):
    gemma = "hidden_activation" if family.startswith("gemma") else "hidden_act"
    key = "activation_function" if family == "gpt2" else gemma
    with pytest.raises(UserError, match=f"{key} = 'tanh' is not supported, only silu"):
        read(family, **{key: "tanh"})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [0, -3, "64", 2.5, True])
def test_sizes_that_are_none_are_named(family, value):
    for key in sizes(family):
        with pytest.raises(UserError, match=f"{key} = {value!r} is no positive whole number"):
            read(family, **{key: value})

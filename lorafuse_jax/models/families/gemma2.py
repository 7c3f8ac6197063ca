"""Gemma 2 (2408.00118).

Norms before and after attention and MLP, with scales stored around zero; every other layer sees a
window; scores and logits are soft-capped; embeddings are multiplied by the square root of D.
"""

from typing import Any

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import keys, standard
from lorafuse_jax.models.families.standard import WEIGHTS as WEIGHTS

MODEL_TYPE = "gemma2"
HANDLED = (
    standard.SIZES
    | standard.ROPE_KEYS
    | {
        "hidden_act",  # an older name, which transformers does not look at
        "hidden_activation",
        "attention_bias",
        "query_pre_attn_scalar",
        "sliding_window",
        "layer_types",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    }
)
REQUIRED = keys.REQUIRED | {"use_bidirectional_attention": False}


def config_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes.

    Raises:
        UserError: a key that is missing, not known, or of a value that this decoder does not have.
    """
    keys.check_keys(config, HANDLED, REQUIRED)
    fields = gemma_fields(config, context_length=8192)
    every_other = [layer % 2 == 0 for layer in range(fields["num_layers"])]
    decoder = DecoderConfig(
        **fields,
        rope=standard.rope(config),
        sliding=standard.sliding(config, config.get("sliding_window", 4096), every_other),
        attention_softcap=config.get("attn_logit_softcapping", 50.0),
        logit_softcap=config.get("final_logit_softcapping", 30.0),
    )
    return standard.checked(decoder)


def gemma_fields(config: dict[str, Any], context_length: int) -> dict[str, Any]:
    """What Gemma 2 and 3 have in common."""
    sizes = standard.sizes(
        config,
        num_key_value_heads=4,
        head_dim=256,
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
    )
    bias = bool(config.get("attention_bias"))
    return sizes | {
        "norm_offset": 1.0,
        "sandwich_norms": True,
        "query_scale": config.get("query_pre_attn_scalar", 256) ** -0.5,
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": standard.activation(config, "hidden_activation", "gelu_pytorch_tanh"),
        "embedding_scale": config["hidden_size"] ** 0.5,
    }

"""Qwen3 (2505.09388), the dense models: queries and keys are normed, each head for itself."""

from typing import Any

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import keys, qwen2, standard
from lorafuse_jax.models.families.standard import WEIGHTS as WEIGHTS

MODEL_TYPE = "qwen3"
HANDLED = qwen2.HANDLED | {"attention_bias"}


def config_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes.

    Raises:
        UserError: a key that is missing, not known, or of a value that this decoder does not have.
    """
    keys.check_keys(config, HANDLED, qwen2.REQUIRED)
    sizes = standard.sizes(
        config, num_key_value_heads=32, head_dim=128, max_position_embeddings=32768
    )
    bias = bool(config.get("attention_bias"))
    decoder = DecoderConfig(
        **sizes,
        rope=standard.rope(config),
        activation=standard.activation(config, "hidden_act", "silu"),
        sliding=qwen2.upper_layers_slide(config, sizes["num_layers"]),
        qk_norm=True,
        qkv_bias=bias,
        out_bias=bias,
    )
    return standard.checked(decoder)

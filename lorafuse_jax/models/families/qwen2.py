"""Qwen2 and Qwen2.5 (2412.15115): a Llama with biases on q, k and v; upper layers may slide."""

from typing import Any

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import keys, standard
from lorafuse_jax.models.families.standard import WEIGHTS as WEIGHTS

MODEL_TYPE = "qwen2"
WINDOW_KEYS = {"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"}
HANDLED = standard.SIZES | standard.ROPE_KEYS | WINDOW_KEYS | {"hidden_act"}
REQUIRED = keys.REQUIRED | {"use_mrope": False}


def config_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes.

    Raises:
        UserError: a key that is missing, not known, or of a value that this decoder does not have.
    """
    keys.check_keys(config, HANDLED, REQUIRED)
    sizes = standard.sizes(config, num_key_value_heads=32, max_position_embeddings=32768)
    decoder = DecoderConfig(
        **sizes,
        rope=standard.rope(config),
        activation=standard.activation(config, "hidden_act", "silu"),
        sliding=upper_layers_slide(config, sizes["num_layers"]),
        qkv_bias=True,
    )
    return standard.checked(decoder)


def upper_layers_slide(config: dict[str, Any], num_layers: int):
    """Layers from ``max_window_layers`` on see a window, if ``use_sliding_window`` says so."""
    window = config.get("sliding_window", 4096) if config.get("use_sliding_window") else None
    lowest = config.get("max_window_layers", 28)
    default = [window is not None and layer >= lowest for layer in range(num_layers)]
    return standard.sliding(config, window, default)

"""The Llama family, defined by its traits.

Pre-norm blocks with RMSNorm (1910.07467), rotary positions in the half-split layout (2104.09864),
grouped-query attention (2305.13245), a SiLU-gated MLP (2002.05202), and no dropout. Llama 1 to 3,
SmolLM and SmolLM2 are of it.
"""

from typing import Any

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import keys, standard
from lorafuse_jax.models.families.standard import WEIGHTS as WEIGHTS

MODEL_TYPE = "llama"
HANDLED = standard.SIZES | standard.ROPE_KEYS | {"hidden_act", "attention_bias", "mlp_bias"}


def config_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes.

    Raises:
        UserError: a key that is missing, not known, or of a value that this decoder does not have.
    """
    keys.check_keys(config, HANDLED)
    bias = bool(config.get("attention_bias"))
    decoder = DecoderConfig(
        **standard.sizes(config),
        rope=standard.rope(config),
        activation=standard.activation(config, "hidden_act", "silu"),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bool(config.get("mlp_bias")),
    )
    return standard.checked(decoder)

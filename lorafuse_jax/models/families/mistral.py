"""Mistral (2310.06825): a Llama whose layers all see a sliding window, where one is given."""

from typing import Any

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import keys, standard
from lorafuse_jax.models.families.standard import WEIGHTS as WEIGHTS

MODEL_TYPE = "mistral"
HANDLED = standard.SIZES | standard.ROPE_KEYS | {"hidden_act", "sliding_window"}


def config_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes.

    Raises:
        UserError: a key that is missing, not known, or of a value that this decoder does not have.
    """
    keys.check_keys(config, HANDLED)
    # An absent window is 4096, the first release's; later ones say null, and mean none.
    window = config.get("sliding_window", 4096)
    sizes = standard.sizes(config, num_key_value_heads=8, max_position_embeddings=4096 * 32)
    slides = [window is not None] * sizes["num_layers"]
    decoder = DecoderConfig(
        **sizes,
        rope=standard.rope(config),
        activation=standard.activation(config, "hidden_act", "silu"),
        sliding=standard.sliding(config, window, slides),
    )
    return standard.checked(decoder)

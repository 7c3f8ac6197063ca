"""Gemma 3 (2503.19786), the text models.

As Gemma 2 without soft caps; queries and keys are normed; five of six layers see a window, and
these have rotary positions of their own.
"""

from typing import Any

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import gemma2, keys, standard
from lorafuse_jax.models.families.standard import WEIGHTS as WEIGHTS
from lorafuse_jax.types import UserError

MODEL_TYPE = "gemma3_text"
PATTERN_KEYS = ("sliding_window_pattern", "_sliding_window_pattern")
HANDLED = gemma2.HANDLED | {*PATTERN_KEYS, "rope_local_base_freq"}
REQUIRED = gemma2.REQUIRED | {"attn_logit_softcapping": None}
"""Transformers reads an attention soft cap and does not apply it; released models have none."""

GLOBAL_THETA, LOCAL_THETA = 1_000_000.0, 10_000.0


def config_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes.

    Raises:
        UserError: a key that is missing, not known, or of a value that this decoder does not have.
    """
    keys.check_keys(config, HANDLED, REQUIRED)
    fields = gemma2.gemma_fields(config, context_length=131072)
    pattern = next((config[key] for key in PATTERN_KEYS if config.get(key)), 6)
    default = [(layer + 1) % pattern != 0 for layer in range(fields["num_layers"])]
    full, local = _ropes(config)
    decoder = DecoderConfig(
        **fields,
        rope=full,
        sliding=standard.sliding(config, config.get("sliding_window", 4096), default, local),
        qk_norm=True,
        logit_softcap=config.get("final_logit_softcapping"),
    )
    return standard.checked(decoder)


def _ropes(config: dict[str, Any]):
    """Of full layers and of sliding ones: transformers 5 keeps a dictionary of each."""
    by_type = config.get("rope_parameters") or {}
    if unknown := sorted(by_type.keys() - {"full_attention", "sliding_attention"}):
        raise UserError(
            f"config.json: rope_parameters has {unknown}; a gemma3_text has settings for "
            "full_attention and for sliding_attention"
        )
    full = config.get("rope_scaling") or by_type.get("full_attention") or {}
    local = by_type.get("sliding_attention") or {}
    theta = full.get("rope_theta") or config.get("rope_theta") or GLOBAL_THETA
    local_theta = local.get("rope_theta") or config.get("rope_local_base_freq") or LOCAL_THETA
    return standard.rope_of(full, float(theta)), standard.rope_of(local, float(local_theta))

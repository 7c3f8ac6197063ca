"""Configurations of well-known models as their publishers' ``config.json`` says them, by name.

With them a run can be planned where neither the hub nor a copy of the model is at hand.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import FAMILIES
from lorafuse_jax.models.hub import config_of_folder
from lorafuse_jax.types import UserError


def _sizes(vocabulary: int, width: int, ffn: int, layers: int, heads: int, kv_heads: int) -> dict:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }


_LLAMA2 = {"model_type": "llama", "max_position_embeddings": 4096, "rope_theta": 10000.0}

PUBLISHED: dict[str, dict[str, Any]] = {
    "llama2-7b": _sizes(32000, 4096, 11008, 32, 32, 32) | _LLAMA2,
    "llama2-13b": _sizes(32000, 5120, 13824, 40, 40, 40) | _LLAMA2,
    "llama2-70b": _sizes(32000, 8192, 28672, 80, 64, 8) | _LLAMA2,
    "mistral-7b": _sizes(32000, 4096, 14336, 32, 32, 8)
    | {
        "model_type": "mistral",
        "max_position_embeddings": 32768,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
    },
    "smollm2-135m": _sizes(49152, 576, 1536, 30, 9, 3)
    | {
        "model_type": "llama",
        "max_position_embeddings": 8192,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
    },
}
"""Name -> config.json: LLaMA 2 (2307.09288), Mistral v0.1 (2310.06825), SmolLM2 (2502.02737)."""

HUB = {
    "llama2-7b": "meta-llama/Llama-2-7b-hf",
    "llama2-13b": "meta-llama/Llama-2-13b-hf",
    "llama2-70b": "meta-llama/Llama-2-70b-hf",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M",
}
"""Name -> that on the hub, as training takes it."""


def described(name: str) -> tuple[ModuleType, DecoderConfig]:
    """Family and configuration of a model, without its weights.

    Args:
        name: one of ``PUBLISHED``, or a folder with a ``config.json``.

    Raises:
        UserError: it is neither, or the configuration is not supported.
    """
    if name in PUBLISHED:
        config = PUBLISHED[name]
        family = FAMILIES[config["model_type"]]
        return family, family.config_from_hf(config)
    if Path(name).is_dir():
        return config_of_folder(Path(name))
    raise UserError(
        f"no model {name!r} is known by its shapes: name a folder with a config.json, or one of "
        f"{', '.join(PUBLISHED)}"
    )

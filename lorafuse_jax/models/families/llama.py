"""The Llama family, defined by its traits.

Pre-norm blocks with RMSNorm (1910.07467), rotary positions in the half-split layout (2104.09864),
grouped-query attention (2305.13245), a SiLU-gated MLP (2002.05202), and no dropout. Llama 1 to 3,
SmolLM and SmolLM2 are of it.
"""

from typing import Any

from lorafuse_jax.models.config import DecoderConfig, LinearScaling, Llama3Scaling, Rope
from lorafuse_jax.models.weights import WeightRule
from lorafuse_jax.types import UserError

MODEL_TYPE = "llama"

HANDLED = {
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "attention_bias",
    "mlp_bias",
    "tie_word_embeddings",
    "model_type",
}
"""Keys that the configuration is made from."""

REQUIRED_VALUES: dict[str, Any] = {
    "hidden_act": "silu",
    "pretraining_tp": 1,
    "is_decoder": False,
    "rope_interleaved": False,
}
"""Keys that change the function; only this value is supported (absent or null counts as it)."""

ROPE_SETTINGS = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}
"""Rope type -> the settings that it needs beside ``rope_theta``, and has no others."""

IGNORED = {
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "dtype",
    "torch_dtype",
    "initializer_range",
    "is_llama_config",
    "transformers_version",
    "transformers.js_config",
    "use_cache",
    "_name_or_path",
    "name_or_path",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "problem_type",
    "is_encoder_decoder",
    "_commit_hash",
    "_attn_implementation",
    "_flash_attn_2_enabled",
    "attn_implementation",
    "max_length",
    "max_sequence_length",
    "tokenizer_class",
    "unsloth_fixed",
    "unsloth_version",
}
"""Keys that do not change the logits of a forward pass in evaluation."""

WEIGHTS = (
    WeightRule("model.embed_tokens.weight", "embed_tokens/embedding"),
    WeightRule("model.norm.weight", "norm/scale"),
    WeightRule("lm_head.weight", "lm_head/kernel", transpose=True),
    WeightRule("model.layers.{layer}.input_layernorm.weight", "layers/input_layernorm/scale"),
    WeightRule(
        "model.layers.{layer}.post_attention_layernorm.weight",
        "layers/post_attention_layernorm/scale",
    ),
    *(
        rule
        for module in (
            *(f"self_attn/{name}_proj" for name in "qkvo"),
            *(f"mlp/{name}_proj" for name in ("gate", "up", "down")),
        )
        for rule in (
            WeightRule(
                f"model.layers.{{layer}}.{module.replace('/', '.')}.weight",
                f"layers/{module}/kernel",
                transpose=True,
            ),
            WeightRule(
                f"model.layers.{{layer}}.{module.replace('/', '.')}.bias", f"layers/{module}/bias"
            ),
        )
    ),
)


def config_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes.

    Raises:
        UserError: a key that is missing, not known, or of a value that this decoder does not have.
    """
    _check_keys(config)
    try:
        heads = config["num_attention_heads"]
        decoder = DecoderConfig(
            vocab_size=config["vocab_size"],
            model_dim=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            ffn_dim=config["intermediate_size"],
            context_length=config.get("max_position_embeddings", 2048),
            norm_eps=config.get("rms_norm_eps", 1e-6),
            rope=_rope(config),
            attention_bias=config.get("attention_bias", False),
            mlp_bias=config.get("mlp_bias", False),
            tie_embeddings=config.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise UserError(f"config.json lacks {error}, which every llama has") from None
    if decoder.num_heads % decoder.num_kv_heads:
        raise UserError(
            f"config.json: num_attention_heads = {decoder.num_heads} is not a multiple of "
            f"num_key_value_heads = {decoder.num_kv_heads}"
        )
    return decoder


def _check_keys(config: dict[str, Any]) -> None:
    for key, value in REQUIRED_VALUES.items():
        if config.get(key) not in (None, value):
            raise UserError(
                f"config.json: {key} = {config[key]!r} is not supported, only {value!r}"
            )
    unknown = sorted(
        key
        for key, value in config.items()
        if key not in HANDLED | IGNORED | REQUIRED_VALUES.keys() and value is not None
    )
    if unknown:
        listed = ", ".join(f"{key} = {config[key]!r}" for key in unknown)
        raise UserError(
            f"config.json has keys that a llama does not have here: {listed}; they may change what "
            "the model computes, so it is not loaded"
        )


def _rope(config: dict[str, Any]) -> Rope:
    """From transformers 5's ``rope_parameters``, or 4's ``rope_theta`` and ``rope_scaling``."""
    settings = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = settings.get("rope_type") or settings.get("type") or "default"
    if kind not in ROPE_SETTINGS:
        raise UserError(
            f"config.json: rope type {kind!r} is not supported; {', '.join(ROPE_SETTINGS)} are"
        )
    given = settings.keys() - {"rope_type", "type", "rope_theta"}
    if given != set(ROPE_SETTINGS[kind]):
        raise UserError(
            f"config.json: rope type {kind!r} has the settings {sorted(given)}, but takes "
            f"{sorted(ROPE_SETTINGS[kind])}"
        )
    theta = float(settings.get("rope_theta", config.get("rope_theta", 10000.0)))
    if kind == "linear":
        return Rope(theta=theta, scaling=LinearScaling(factor=float(settings["factor"])))
    if kind == "llama3":
        scaling = Llama3Scaling(
            factor=float(settings["factor"]),
            low_freq_factor=float(settings["low_freq_factor"]),
            high_freq_factor=float(settings["high_freq_factor"]),
            original_context_length=settings["original_max_position_embeddings"],
        )
        return Rope(theta=theta, scaling=scaling)
    return Rope(theta=theta)

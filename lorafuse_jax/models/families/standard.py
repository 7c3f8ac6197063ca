"""What most families share: sizes, rotary settings, windows, and names of tensors."""

from collections.abc import Iterable, Mapping
from typing import Any

from lorafuse_jax.models.config import (
    Activation,
    DecoderConfig,
    LinearScaling,
    Llama3Scaling,
    Rope,
    Sliding,
)
from lorafuse_jax.models.families import keys
from lorafuse_jax.models.weights import WeightRule
from lorafuse_jax.types import UserError

SIZES = {
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
}
"""Keys that ``sizes`` reads."""

ROPE_KEYS = {"rope_theta", "rope_scaling", "rope_parameters"}

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

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def sizes(config: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """The fields of a ``DecoderConfig`` that all families but GPT-2 write alike.

    Args:
        config: of config.json.
        defaults: what the family's configuration takes for keys that are absent.

    Raises:
        UserError: a size is missing, or no size.
    """
    get = lambda key: config[key] if config.get(key) is not None else defaults.get(key)  # noqa: E731
    needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    keys.check_sizes(
        config,
        needed=(*needed, "num_attention_heads"),
        optional=("num_key_value_heads", "head_dim", "max_position_embeddings"),
    )
    heads = config["num_attention_heads"]
    return {
        "vocab_size": config["vocab_size"],
        "model_dim": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": heads,
        "num_kv_heads": get("num_key_value_heads") or heads,
        "head_dim": get("head_dim") or config["hidden_size"] // heads,
        "ffn_dim": config["intermediate_size"],
        "context_length": get("max_position_embeddings") or 2048,
        "norm_eps": get("rms_norm_eps") or 1e-6,
        "tie_embeddings": bool(get("tie_word_embeddings")),
    }


def checked(decoder: DecoderConfig) -> DecoderConfig:
    """The same, if its heads come out even.

    Raises:
        UserError: they do not.
    """
    if decoder.num_heads % decoder.num_kv_heads:
        raise UserError(
            f"config.json: num_attention_heads = {decoder.num_heads} is not a multiple of "
            f"num_key_value_heads = {decoder.num_kv_heads}"
        )
    if decoder.rope is not None and decoder.head_dim % 2:
        raise UserError(f"config.json: head_dim = {decoder.head_dim} is odd, and cannot be rotated")
    return decoder


def activation(config: Mapping[str, Any], key: str, default: str) -> Activation:
    """The activation that a key names.

    Raises:
        UserError: it is not supported.
    """
    name = config.get(key) or default
    if name not in ACTIVATIONS:
        raise UserError(
            f"config.json: {key} = {name!r} is not supported, only {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def rope(config: Mapping[str, Any], default_theta: float = 10000.0) -> Rope:
    """From transformers 5's ``rope_parameters``, or 4's ``rope_theta`` and ``rope_scaling``.

    Raises:
        UserError: a type, or a setting of it, that is not supported.
    """
    settings = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = settings.get("rope_theta", config.get("rope_theta"))
    return rope_of(settings, float(default_theta if theta is None else theta))


def rope_of(settings: Mapping[str, Any], theta: float) -> Rope:
    """Of one dictionary of settings."""
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


def sliding(
    config: Mapping[str, Any],
    window: int | None,
    default: Iterable[bool],
    local: Rope | None = None,
) -> Sliding | None:
    """Which layers slide: as ``layer_types`` says, otherwise as the family does by default.

    Raises:
        UserError: a type of layer that is not known, not one a layer, or no window for them.
    """
    types = config.get("layer_types")
    if types is None:
        layers = tuple(default)
    else:
        unknown = set(types) - {"sliding_attention", "full_attention"}
        if unknown or len(types) != config["num_hidden_layers"]:
            raise UserError(
                f"config.json: layer_types = {types}; one of full_attention and sliding_attention "
                f"is needed for each of {config['num_hidden_layers']} layers"
            )
        layers = tuple(kind == "sliding_attention" for kind in types)
    if not any(layers):
        return None
    if not window:
        raise UserError("config.json: layers slide, but there is no sliding_window")
    return Sliding(window=window, layers=layers, rope=local)


def weight_rules(modules: Iterable[str], norms: Iterable[str]) -> tuple[WeightRule, ...]:
    """Tensors with Hugging Face's usual names, which are ours as well."""
    linear = [
        rule
        for module in modules
        for rule in (
            WeightRule(_tensor(module, "weight"), f"layers/{module}/kernel", transpose=True),
            WeightRule(_tensor(module, "bias"), f"layers/{module}/bias"),
        )
    ]
    scales = [WeightRule(_tensor(name, "weight"), f"layers/{name}/scale") for name in norms]
    return (
        WeightRule("model.embed_tokens.weight", "embed_tokens/embedding"),
        WeightRule("model.norm.weight", "norm/scale"),
        WeightRule("lm_head.weight", "lm_head/kernel", transpose=True),
        *linear,
        *scales,
    )


def _tensor(module: str, kind: str) -> str:
    return f"model.layers.{{layer}}.{module.replace('/', '.')}.{kind}"


WEIGHTS = weight_rules(
    modules=(
        *(f"self_attn/{name}_proj" for name in "qkvo"),
        *(f"mlp/{name}_proj" for name in ("gate", "up", "down")),
    ),
    norms=(
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
        "self_attn/q_norm",
        "self_attn/k_norm",
    ),
)
"""Every tensor that one of these families has; a model takes those that its decoder has."""

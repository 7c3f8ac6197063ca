"""Which keys of a config.json any family has, and what is refused."""

from collections.abc import Iterable, Mapping
from typing import Any

from lorafuse_jax.types import UserError

IGNORED = {
    "architectures",
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "cache_implementation",
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
    "task_specific_params",
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

REQUIRED: dict[str, Any] = {
    "pretraining_tp": 1,
    "is_decoder": False,
    "rope_interleaved": False,
    "add_cross_attention": False,
}
"""Keys that change the function; only this value is supported (absent or null counts as it)."""


def check_keys(
    config: Mapping[str, Any],
    handled: Iterable[str],
    required: Mapping[str, Any] = REQUIRED,
    ignored: Iterable[str] = IGNORED,
) -> None:
    """Raise UserError for a key that is not known, or whose value is not supported."""
    family = config.get("model_type", "model")
    for key, value in required.items():
        if config.get(key) not in (None, value):
            raise UserError(
                f"config.json: {key} = {config[key]!r} is not supported, only {value!r}"
            )
    known = {*handled, *ignored, *required}
    unknown = sorted(k for k, value in config.items() if k not in known and value is not None)
    if unknown:
        listed = ", ".join(f"{key} = {config[key]!r}" for key in unknown)
        raise UserError(
            f"config.json has keys that a {family} does not have here: {listed}; they may change "
            "what the model computes, so it is not loaded"
        )


def check_sizes(
    config: Mapping[str, Any], needed: Iterable[str], optional: Iterable[str] = ()
) -> None:
    """Raise UserError for a size that is missing, or is no positive whole number."""
    needed = tuple(needed)
    for key in (*needed, *optional):
        value = config.get(key)
        if value is None and key in needed:
            family = config.get("model_type", "model")
            raise UserError(f"config.json lacks {key!r}, which every {family} has")
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"config.json: {key} = {value!r} is no positive whole number")

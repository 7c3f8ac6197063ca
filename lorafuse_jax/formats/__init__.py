"""Adapters on disk: PEFT's format for low-rank ones, safetensors for dense ones."""

from lorafuse_jax.formats.adapters import load_adapter, save_adapter
from lorafuse_jax.formats.peft import PeftInfo, load_peft, read_peft_info, save_peft

__all__ = [
    "PeftInfo",
    "load_adapter",
    "load_peft",
    "read_peft_info",
    "save_adapter",
    "save_peft",
]

"""Adapters on disk: PEFT's format for low-rank ones, safetensors for dense ones."""

from lorafuse_jax.formats.adapters import is_adapter, load_adapter, read_provenance, save_adapter
from lorafuse_jax.formats.members import Members, load_members
from lorafuse_jax.formats.peft import load_peft, save_peft
from lorafuse_jax.formats.peft_config import PeftConfig, read_peft_config

__all__ = [
    "Members",
    "PeftConfig",
    "is_adapter",
    "load_adapter",
    "load_members",
    "load_peft",
    "read_peft_config",
    "read_provenance",
    "save_adapter",
    "save_peft",
]

"""Adapters on disk: PEFT folders for low-rank ones, a safetensors file for dense ones."""

from lorafuse_jax.formats.adapters import load_adapter, save_adapter

__all__ = ["load_adapter", "save_adapter"]

"""Real models and data, fetched once by name, hash-checked, whole or not at all."""

from lorafuse_jax.assets.cache import asset_path, fetch
from lorafuse_jax.assets.catalogue import ASSETS

__all__ = ["ASSETS", "asset_path", "fetch"]

"""Real models and data, fetched once by name, hash-checked, whole or not at all."""

from lorafuse_jax.assets.catalogue import ASSETS
from lorafuse_jax.assets.fetch import asset_path, fetch

__all__ = ["ASSETS", "asset_path", "fetch"]

"""The paper: SeedLoRA, as submitted to ICLR 2025 and as published at ICML 2025."""

from lorafuse_jax.fusion.seedlora.distribution_matching import distribution_matching
from lorafuse_jax.fusion.seedlora.two_stages import kept_norm_share, seedlora

SEEDLORA = (distribution_matching, seedlora)

__all__ = ["SEEDLORA", "distribution_matching", "kept_norm_share", "seedlora"]

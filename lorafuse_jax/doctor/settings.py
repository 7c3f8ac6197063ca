"""Settings of the environment that make programs slow."""

import os
from collections.abc import Iterator

import jax

from lorafuse_jax.doctor.finding import Finding

SLOW_SETTINGS = {
    "jax_disable_jit": "operations run one by one instead of as compiled programs",
    "jax_debug_nans": "every result is looked through for NaN",
}
"""Switches of jax that are off by default, and what they do."""


def findings() -> Iterator[Finding]:
    """What the environment asks of XLA and jax that costs speed."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    if "--xla_backend_optimization_level=0" in flags:
        yield Finding(
            "slow",
            "XLA_FLAGS has --xla_backend_optimization_level=0",
            "programs compile sooner and run slower",
            "unset XLA_FLAGS",
        )
    if jax.config.read("jax_disable_most_optimizations"):
        yield Finding(
            "slow",
            "JAX_DISABLE_MOST_OPTIMIZATIONS is set",
            "programs compile sooner and run slower",
            "unset JAX_DISABLE_MOST_OPTIMIZATIONS",
        )
    for name, why in SLOW_SETTINGS.items():
        if getattr(jax.config, name):
            yield Finding("slow", f"{name.upper()} is set", why, f"unset {name.upper()}")

"""Compiled programs that are kept on disk: groups, tests and repetitions share them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

FOLDER, SECONDS = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
LEAST_SECONDS = 0.1
"""Of compiling, from which on a program is kept."""


@contextmanager
def kept_programs(folder: Path) -> Iterator[None]:
    """Within the block programs are kept in a folder, unless JAX was told another one before."""
    if jax.config.values[FOLDER]:
        yield
        return
    before = jax.config.values[SECONDS]
    jax.config.update(FOLDER, str(folder))
    jax.config.update(SECONDS, LEAST_SECONDS)
    try:
        yield
    finally:
        jax.config.update(FOLDER, None)
        jax.config.update(SECONDS, before)
        compilation_cache.reset_cache()

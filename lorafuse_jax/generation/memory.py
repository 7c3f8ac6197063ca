"""What decoding will need, before it starts."""

import math
import os
from typing import Any

import jax
import jax.numpy as jnp

from lorafuse_jax.generation.request import Engine
from lorafuse_jax.types import Params, UserError

RESERVE = 0.05
"""Share of the memory that is left to everything else."""


def available_bytes() -> int | None:
    """Memory that the default device has left; None where that is not known."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _page_cache()
        except (ValueError, OSError):
            return None
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def shapes(
    engine: Engine, params: Params, bank: Any, rows: int
) -> tuple[jax.ShapeDtypeStruct, int]:
    """Of the keys of a call with one token a row, and V."""

    def step(params, bank):
        nothing = jnp.zeros((rows, 1), jnp.int32)
        hidden, (keys, _) = engine.extend(params, bank, nothing, nothing, nothing, None)
        return keys, engine.logits(params, hidden[:, 0])

    keys, logits = jax.eval_shape(step, params, bank)
    return keys, logits.shape[-1]


def foresee(
    like: jax.ShapeDtypeStruct, *, rows: int, slots: int, read_tokens: int, vocab_size: int
) -> int:
    """Bytes that decoding takes at most beside the parameters.

    Args:
        like: keys of one call [L, B, K, T, H].
        rows: decoded at once.
        slots: of each.
        read_tokens: of prompts that are read at once.
        vocab_size: V.
    """
    layers, _, kv_heads, _, head_dim = like.shape
    token = 2 * layers * kv_heads * head_dim * like.dtype.itemsize
    # The ring exists twice while it grows; prompts are padded once before they are laid down.
    cache = 2 * rows * slots * token + 2 * read_tokens * token
    return cache + 2 * rows * vocab_size * 4


def check_fits(needed: int, rows: int) -> None:
    """Raise UserError if more memory is needed than there is."""
    have = available_bytes()
    if have is None or needed <= (1 - RESERVE) * have:
        return
    fewer = max(1, math.floor(rows * (1 - RESERVE) * have / needed))
    raise UserError(
        f"decoding {rows} rows at once needs about {needed / 2**30:.1f} GiB beside the model, and "
        f"{have / 2**30:.1f} GiB are free; ask for at most {fewer} rows, fewer new tokens, or "
        "shorter prompts"
    )


def _page_cache() -> int:
    """Files in memory that the system gives up when it is asked to (Linux)."""
    try:
        with open("/proc/meminfo") as lines:
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    except OSError:
        return 0
    return max(0, sizes.get("MemAvailable", 0) - sizes.get("MemFree", 0))

"""What decoding will need, before it starts."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from lorafuse_jax import memory
from lorafuse_jax.generation.request import Engine
from lorafuse_jax.types import Params, UserError


def shapes(
    engine: Engine, params: Params, bank: Any, rows: int
) -> tuple[jax.ShapeDtypeStruct, int]:
    """Of the keys of a call with one token a row, and V."""

    def step(params, bank):
        nothing = jnp.zeros((rows, 1), jnp.int32)
        hidden, (keys, _) = engine.extend(params, bank, nothing, nothing, nothing, None)
        return keys, engine.logits(params, bank, hidden[:, 0])

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
    have = memory.usable_bytes()
    if have is None or needed <= have:
        return
    fewer = max(1, math.floor(rows * have / needed))
    raise UserError(
        f"decoding {rows} rows at once needs about {needed / 2**30:.1f} GiB beside the model, and "
        f"{have / 2**30:.1f} GiB may be taken; ask for at most {fewer} rows, fewer new tokens, or "
        "shorter prompts"
    )

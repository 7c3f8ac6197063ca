"""Resampling as weights: how often each example is drawn, so that a mean is a product.

One matrix of counts serves every model of a task, and models so stay paired.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

RESAMPLES = 4000
AT_ONCE = 1 << 22
"""Counts turned into floats at a time: 16 MB."""


def resampled_means(
    values: Float[np.ndarray, "*rows E"], seed: int = 0, resamples: int = RESAMPLES
) -> Float[np.ndarray, "*rows draws"]:
    """Means over examples drawn with replacement, the same draws for every row.

    Args:
        values: of one or several models.
        seed: the same seed draws the same examples.
        resamples: number of draws.
    """
    examples = values.shape[-1]
    counts = example_counts(examples, seed, resamples)
    # Of differences from the mean: float32 is then exact enough however large the mean is.
    centre = values.mean(axis=-1, keepdims=True)
    columns = (values - centre).reshape(-1, examples).T.astype(np.float32)
    step = max(1, AT_ONCE // examples)
    blocks = (counts[at : at + step].astype(np.float32) for at in range(0, resamples, step))
    draws = np.concatenate([block @ columns for block in blocks]) / examples
    return draws.T.reshape(*values.shape[:-1], resamples).astype(float) + centre


@lru_cache(maxsize=2)
def example_counts(examples: int, seed: int, resamples: int) -> UInt8[np.ndarray, "draws E"]:
    """How often each example is drawn; kept, since all rows of a table share it."""
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, examples), np.uint8)
    step = max(1, AT_ONCE // examples)
    for at in range(0, resamples, step):
        rows = min(step, resamples - at)
        # No example is drawn 256 times in practice: the chance is below 1e-500.
        chosen = rng.integers(examples, size=(rows, examples), dtype=np.int64)
        chosen += examples * np.arange(rows)[:, None]
        found = np.bincount(chosen.ravel(), minlength=rows * examples)
        counts[at : at + rows] = found.reshape(rows, examples)
    counts.flags.writeable = False
    return counts


def draw_weights(
    rng: np.random.Generator, count: int, shape: tuple[int, ...]
) -> Float[np.ndarray, "*shape count"]:
    """Shares of ``count`` things drawn with replacement ``count`` times."""
    return rng.multinomial(count, np.full(count, 1 / count), shape) / count

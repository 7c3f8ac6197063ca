"""Each seed's own share of the training set, as in bagging: drawn without putting back."""

import numpy as np
from jaxtyping import Int

SUBSET_STREAM = 0x5B5E
"""Tells the generator of subsets from other uses of the same seed."""


def subset_of(seed: int, share: float, num_examples: int) -> Int[np.ndarray, " n"]:
    """Numbers of the examples that a seed has, in ascending order, from these three alone.

    Args:
        seed: the integer that it is drawn from.
        share: of the examples, in (0, 1]; 1 is all of them.
        num_examples: how many there are.

    Returns:
        The nearest number of them, one at least.
    """
    size = max(1, round(share * num_examples))
    drawn = np.random.default_rng([seed, SUBSET_STREAM]).permutation(num_examples)
    return np.sort(drawn[:size])

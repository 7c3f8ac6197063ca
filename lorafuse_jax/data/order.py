"""In which order a seed sees the examples: a function of seed and epoch alone, so resumable."""

import numpy as np
from jaxtyping import Int

ORDER_STREAM = 0x0DE2
"""Tells the generator of data orders from other uses of the same seed."""


def order_for_epoch(
    seed: int, epoch: int, lengths: Int[np.ndarray, " E"], strata: int = 1
) -> Int[np.ndarray, " E"]:
    """A permutation of the examples, in which any ``strata`` neighbours are of all lengths.

    The examples are ranked by length (equal ones at random) and cut into ``strata`` parts of equal
    size; each part is shuffled, and the parts take turns. A step of ``strata`` examples is thus a
    stratified sample: steps hold nearly equal numbers of tokens, and so do the seeds of one step,
    which must have one shape. A few examples that are left over when the parts have taken equal
    turns come last.

    Args:
        seed: the member's integer.
        epoch: from 0.
        lengths: of all examples, in tokens.
        strata: how many lengths are told apart; 1 is a plain shuffle.
    """
    rng = np.random.default_rng([seed, ORDER_STREAM, epoch])
    ranked = np.lexsort((rng.random(len(lengths)), lengths))
    parts = [rng.permutation(part) for part in np.array_split(ranked, strata)]
    turns = len(lengths) // strata
    body = np.stack([part[:turns] for part in parts], axis=1)
    left = rng.permutation(np.concatenate([part[turns:] for part in parts]))
    return np.concatenate([body.ravel(), left])

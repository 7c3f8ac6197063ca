"""Arithmetic that a training step needs, whatever the program does: for the share of the peak.

A product of an [m, k] and a [k, n] matrix is 2 m k n operations. What is counted: every projection
of every real token forward, and once more for the gradient of its input; the low-rank updates,
whose factors get a gradient too; attention between the tokens that see each other; the output head
where there is a loss. The embedding's update is looked up: its B alone is a product. What is not:
padding, anything computed a second time, weight gradients of the frozen base, and norms, gates and
softmax, which are no matrix products. The gradient of the first adapted layer's input is counted
though nothing needs it, as is usual (2P + 2P).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What decides over the arithmetic of a decoder with low-rank updates.

    Attributes:
        projections: entries of all frozen projections of the layers, over all layers.
        head: entries of the output head, V x D.
        updates: entries of all factors of one seed's adapter that every token is multiplied with,
            R (I + O) a projection.
        head_updates: the same of those that only tokens with a loss are multiplied with.
        attention: N x H, the width of all query heads of a layer.
        layers: how many see all earlier tokens.
        sliding_layers: how many see only the last ``window`` tokens.
        window: in tokens, the token itself included.
    """

    projections: int
    head: int
    updates: int
    attention: int
    layers: int
    head_updates: int = 0
    sliding_layers: int = 0
    window: int | None = None


@dataclass(frozen=True)
class StepWork:
    """What one step's batch of all seeds holds.

    Attributes:
        tokens: real tokens.
        losses: tokens with a loss.
        pairs: of a token and one that it sees, itself included, in a layer that sees all.
        windowed_pairs: the same in a layer with a window.
    """

    tokens: int
    losses: int
    pairs: int
    windowed_pairs: int = 0


def count_work(batch: Any, window: int | None = None) -> StepWork:
    """Count a packed batch, leaves [...]: a token at position p of its example sees p + 1 tokens.

    Args:
        batch: ``segments`` (0 is padding), ``positions`` and ``loss_weight`` (0 is none).
        window: of the sliding layers.
    """
    seen = (np.asarray(batch.positions, np.int64) + 1)[np.asarray(batch.segments) > 0]
    windowed = 0 if window is None else int(np.minimum(seen, window).sum())
    losses = int(np.count_nonzero(batch.loss_weight))
    return StepWork(seen.size, losses, int(seen.sum()), windowed)


def needed_flops(size: ModelSize, work: StepWork) -> float:
    """Operations of one step over all seeds, forward and backward.

    An update's two factors: forward, the gradient of the input, the gradient of the factor. A pair
    in attention: a score and a share of the mixture forward, and twice that backward.
    """
    linear = 2 * 2 * size.projections + 3 * 2 * size.updates
    pairs = size.layers * work.pairs + size.sliding_layers * work.windowed_pairs
    attention = 3 * 2 * 2 * size.attention
    head = 2 * 2 * size.head + 3 * 2 * size.head_updates
    return float(work.tokens * linear + pairs * attention + work.losses * head)

"""What is made of the losses at the points: contrasts with their standard errors, and barriers.

Losses are means over answer tokens, so ratios of sums over examples; examples are what is drawn
from a population. A contrast of points is paired: what makes an example hard falls out of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

PerExample = Float[np.ndarray, "P E"]
"""Minus the weighted log-probability of the answers of each example at each point, nats."""


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error over examples; NaN with fewer than two examples."""

    value: float
    error: float


@dataclass(frozen=True)
class Barrier:
    """The highest point of a line over the straight line between its ends.

    Attributes:
        height: at least 0, as it is 0 at the ends; the error is that of the place ``at``, whose
            choice as the highest it leaves out.
        at: the place t.
    """

    height: Estimate
    at: float


def contrast(
    losses: PerExample, factors: Sequence[float], tokens: Float[np.ndarray, " E"]
) -> Estimate:
    """``sum_p factors[p] loss_p``, with the standard error of a ratio (by linearisation).

    Args:
        losses: of the points.
        factors: one a point; ``[1]`` gives a loss, ``[1, -1]`` a paired difference.
        tokens: weight of the answer tokens of each example, alike for all points.
    """
    own = np.asarray(factors, float) @ losses
    value = own.sum() / tokens.sum()
    count = len(tokens)
    if count < 2:
        return Estimate(float(value), float("nan"))
    residuals = own - value * tokens
    error = np.sqrt(count / (count - 1) * (residuals**2).sum()) / tokens.sum()
    return Estimate(float(value), float(error))


def barrier(
    places: Sequence[float], losses: PerExample, tokens: Float[np.ndarray, " E"]
) -> Barrier:
    """``max_t L(t) - (1 - t) L(0) - t L(1)`` over the places in [0, 1].

    Source: Entezari et al. 2022 (arXiv 2110.06296), after the linear mode connectivity of Frankle
    et al. 2020 (1912.05671), who compare the highest loss with the mean of the ends' instead.

    Args:
        places: t of each point; 0 and 1 are among them.
        losses: of the points.
        tokens: as for ``contrast``.
    """
    start, end = list(places).index(0.0), list(places).index(1.0)
    found = Barrier(Estimate(0.0, 0.0), 0.0)
    for number, t in enumerate(places):
        if not 0 < t < 1:
            continue
        above = contrast(losses[[number, start, end]], (1.0, t - 1, -t), tokens)
        if above.value > found.height.value:
            found = Barrier(above, float(t))
    return found


@dataclass(frozen=True)
class SizeGain:
    """The fused adapters of all (or some) subsets of one size.

    Attributes:
        size: of the subsets.
        losses: of each subset.
        spread: standard deviation of these; they share members, so it is no standard error.
        gain: mean loss of the single members minus their mean loss: positive is better.
    """

    size: int
    losses: list[float]
    spread: float
    gain: Estimate


def gain_of_size(
    size: int,
    losses: PerExample,
    singles: Float[np.ndarray, "S E"],
    tokens: Float[np.ndarray, " E"],
) -> SizeGain:
    """Mean and spread over subsets of one size, and the paired gain over the single members."""
    each = losses.sum(1) / tokens.sum()
    both = np.concatenate([singles, losses])
    factors = [1 / len(singles)] * len(singles) + [-1 / len(losses)] * len(losses)
    spread = float(each.std(ddof=1)) if len(each) > 1 else 0.0
    return SizeGain(size, each.tolist(), spread, contrast(both, factors, tokens))

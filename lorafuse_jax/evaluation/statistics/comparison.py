"""One model against the mean seed, and what may be said of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from lorafuse_jax.evaluation.statistics.crossed import crossed_estimate, gain_over_seeds, whole_at
from lorafuse_jax.evaluation.statistics.hierarchical import pigeonhole_bootstrap
from lorafuse_jax.evaluation.statistics.interval import LEVEL, Interval
from lorafuse_jax.evaluation.statistics.paired import sign_flip_p_value
from lorafuse_jax.evaluation.statistics.power import detectable_difference, resolution

Finding = Literal[
    "better", "worse", "better with these seeds", "worse with these seeds", "equivalent", "open"
]


@dataclass(frozen=True)
class Comparison:
    """A paired difference.

    Attributes:
        difference: mean over examples, with its interval over examples and seeds.
        p_value: of the sign-flip test over examples that it is zero, two-sided.
        detectable: the least true difference that a test of this size finds with power 0.8; None
            where it could find none.
        over_examples: the same mean, with its interval over examples alone, seeds as they are.
        bootstrap: likewise, with the pigeonhole bootstrap's interval over examples and seeds; too
            narrow with few seeds that differ.
        detectable_over_seeds: the least true difference at which the interval of ``difference``
            leaves zero out with probability 0.8; None as above.
        seeds: that there are; with one, nothing is known of others.
    """

    difference: Interval
    p_value: float
    detectable: float | None
    over_examples: Interval
    bootstrap: Interval
    detectable_over_seeds: float | None
    seeds: int


def compare_with_mean_seed(
    row: Float[np.ndarray, " E"], seeds: Float[np.ndarray, "S E"], *, bounded: bool = True
) -> Comparison:
    """One model against the mean seed, example by example.

    Two questions, two answers. The p-value is of the sign-flip permutation test of
    ``d_e = row_e - mean_s seeds_se``; it is about these seeds: would the difference hold on other
    examples? The interval is about other seeds too (``gain_over_seeds``). Only both together
    speak for a model over seeds in general.

    Args:
        row: of the model.
        seeds: of the seeds.
        bounded: whether values are shares in [0, 1], so that a least step is known.
    """
    difference = row - seeds.mean(axis=0)
    estimate = gain_over_seeds(row, seeds, bounded=bounded)
    counted = bounded and whole_at(np.concatenate([row[None], seeds])) is not None
    unit = resolution(row, seeds) / len(seeds) if counted else 0.0
    detectable = detectable_difference(difference, unit)
    if bounded and detectable is not None and detectable > 1:
        detectable = None  # no difference of shares is so large
    return Comparison(
        estimate.interval(),
        sign_flip_p_value(difference),
        detectable,
        crossed_estimate(difference[None], bounded=bounded).interval(),
        pigeonhole_bootstrap(row, seeds),
        estimate.detectable(),
        len(seeds),
    )


def conclude(
    difference: Interval, p_value: float, *, margin: float | None, seeds: int = 2
) -> Finding:
    """The strongest of these that the numbers bear.

    * better, worse: the p-value is below 5 % and the interval over examples and seeds excludes
      zero. In one run that is said of this very model, not of the operator (``gain_over_seeds``).
    * better, worse with these seeds: the p-value alone; or there is but one seed.
    * equivalent: no such difference, and all of the interval lies within ``+-margin``. Two
      one-sided tests (Schuirmann 1987) would take the narrower 90 % interval; this is the one
      that is shown.
    * open: neither. A difference as large as the interval allows may exist.

    Args:
        difference: with its interval over examples and seeds.
        p_value: corrected for the family that it was tested in.
        margin: the largest difference that is called none; None: equivalence is not asked.
        seeds: that there are.
    """
    if p_value < 1 - LEVEL:
        better = difference.value > 0
        if difference.excludes_zero() and seeds > 1:
            return "better" if better else "worse"
        return "better with these seeds" if better else "worse with these seeds"
    return "equivalent" if margin is not None and difference.bound <= margin else "open"

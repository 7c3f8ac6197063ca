"""Bootstraps over several things at once: examples, seeds, groups of seeds.

They make no assumption of shape, but with few seeds or groups their intervals are too narrow: of K
things drawn with replacement the variance comes out (K-1)/K of what it is, and there are no
heavier quantiles for it. ``crossed`` has both, and is what is reported; these stand beside it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from lorafuse_jax.evaluation.statistics.interval import Interval, percentiles
from lorafuse_jax.evaluation.statistics.resampling import (
    RESAMPLES,
    draw_weights,
    resampled_means,
)


def pigeonhole_bootstrap(
    row: Float[np.ndarray, " E"],
    seeds: Float[np.ndarray, "S E"],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """One model's gain over the mean seed, examples and seeds drawn apart (Owen 2007).

    Returns:
        The gain, and the percentile interval.
    """
    means = resampled_means(np.concatenate([row[None], seeds]), seed, resamples)
    rng = np.random.default_rng([seed, 1])
    weights = draw_weights(rng, len(seeds), (resamples,))
    draws = means[0] - (weights * means[1:].T).sum(axis=1)
    return Interval(float(row.mean() - seeds.mean()), *percentiles(draws))


def hierarchical_bootstrap(
    rows: Float[np.ndarray, "G E"],
    seeds: Sequence[Float[np.ndarray, "_ E"]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean gain of several groups: groups drawn, seeds within each drawn one, and examples.

    Args:
        rows: of each group's model.
        seeds: of each group's seeds.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        The mean gain over groups, and the percentile interval.
    """
    groups, rng = len(rows), np.random.default_rng([seed, 2])
    models = resampled_means(rows, seed, resamples).T  # [draws, G]
    members = [resampled_means(group, seed, resamples).T for group in seeds]  # [draws, S] each
    draws = np.zeros(resamples)
    for chosen in rng.integers(groups, size=(groups, resamples)):  # one place in the sample each
        for group, means in enumerate(members):
            here = chosen == group
            weights = draw_weights(rng, means.shape[1], (resamples,))
            gain = models[:, group] - (weights * means).sum(axis=1)
            draws += np.where(here, gain, 0) / groups
    value = np.mean([row.mean() - group.mean() for row, group in zip(rows, seeds, strict=True)])
    return Interval(float(value), *percentiles(draws))

"""An estimate and how far it may be off: shares of right answers, and means."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from lorafuse_jax.evaluation.statistics.resampling import resampled_means

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Whether all of it lies on one side."""
        return self.low > 0 or self.high < 0

    @property
    def bound(self) -> float:
        """The largest size that it allows for: all of it lies within ``+-bound``."""
        return max(abs(self.low), abs(self.high))


def wilson(correct: Bool[np.ndarray, " E"]) -> Interval:
    """A share and Wilson's interval (1927), which behaves near 0 and 1."""
    result = stats.binomtest(int(correct.sum()), len(correct))
    bounds = result.proportion_ci(LEVEL, method="wilson")
    return Interval(float(correct.mean()), float(bounds.low), float(bounds.high))


def accuracy_interval(values: Float[np.ndarray, " E"]) -> Interval:
    """Wilson's where every example is right or wrong; the bootstrap's where there are shares."""
    whole = np.isin(values, (0, 1)).all()
    return wilson(values == 1) if whole else mean_interval(values)


def mean_interval(values: Float[np.ndarray, " E"], seed: int = 0) -> Interval:
    """A mean and its percentile bootstrap interval over examples."""
    return Interval(float(values.mean()), *percentiles(resampled_means(values, seed)))


def percentiles(draws: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """The bounds between which 95 % of the draws lie."""
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)

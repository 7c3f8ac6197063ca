"""A gain over two things at once that were drawn: examples, and seeds (or groups of seeds).

Both are random and crossed: every seed answers every example. The variance of the gain is then the
sum of two, one over examples and one over seeds, each estimated from its own means; what is due
to single answers is counted in both, which errs on the wide side. Its degrees of freedom are
Satterthwaite's (1946): few where seeds differ much, many where examples do. So three seeds that
differ get Student's wide interval, and three that do not pay next to nothing.

Where (almost) no example differs, that none ever would is not shown: of E examples that are alike,
up to ``-log(0.025) / E`` of all may differ. No interval of shares is narrower than that on a side.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from lorafuse_jax.evaluation.statistics.interval import LEVEL, Interval

POWER = 0.8
LEAST = -np.log((1 - LEVEL) / 2) / stats.norm.ppf(0.5 + LEVEL / 2)
"""Standard errors of a mean of shares, times the number of examples, are no smaller."""


class Moments(NamedTuple):
    """As in ``Estimate``, of many tables at once."""

    value: Float[np.ndarray, "*sims"]
    error: Float[np.ndarray, "*sims"]
    freedom: Float[np.ndarray, "*sims"]


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    Attributes:
        value: the mean.
        error: standard error.
        freedom: degrees of freedom of Student's t.
    """

    value: float
    error: float
    freedom: float

    def interval(self) -> Interval:
        """Of 95 %."""
        half = stats.t.ppf(0.5 + LEVEL / 2, self.freedom) * self.error
        return Interval(float(self.value), float(self.value - half), float(self.value + half))

    def p_value(self) -> float:
        """Two-sided, that the mean is zero; below 0.05 exactly where the interval excludes zero."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.value / self.error), self.freedom))

    def detectable(self) -> float | None:
        """The least true mean that such an interval leaves zero out of with probability 0.8.

        None where nothing varied, which does not show how much it would.
        """
        quantiles = stats.t.ppf(0.5 + LEVEL / 2, self.freedom) + stats.t.ppf(POWER, self.freedom)
        return float(quantiles * self.error) or None


def gain_over_seeds(
    row: Float[np.ndarray, " E"], seeds: Float[np.ndarray, "S E"], *, bounded: bool
) -> Estimate:
    """One model's gain over the mean seed, over examples and seeds.

    The model is held fixed while seeds vary, though it was made of them: how it would move with
    other seeds, one group cannot show (``gain_over_groups`` can). Where it moves with their mean,
    as it should, the interval is too wide, not too narrow. With one seed the interval is over
    examples alone.

    Args:
        row: of the model.
        seeds: of the seeds.
        bounded: whether values are shares in [0, 1].
    """
    return crossed_estimate(row - seeds, bounded=bounded)


def gain_over_groups(gains: Float[np.ndarray, "G E"], *, bounded: bool) -> Estimate:
    """The mean gain of several groups of seeds, each fused by itself, over examples and groups.

    Args:
        gains: of each group's fused model over its own mean seed.
        bounded: whether they are of shares in [0, 1].
    """
    return crossed_estimate(gains, bounded=bounded)


def crossed_estimate(values: Float[np.ndarray, "K E"], *, bounded: bool) -> Estimate:
    """The mean of a table whose rows and columns are both drawn."""
    value, error, freedom = crossed_moments(values, bounded=bounded)
    return Estimate(float(value), float(error), float(freedom))


def crossed_moments(values: Float[np.ndarray, "*sims K E"], *, bounded: bool) -> Moments:
    """Mean, standard error and degrees of freedom, of many tables at once."""
    rows, columns = values.shape[-2:]
    over_columns = values.mean(axis=-2).var(axis=-1, ddof=1) / columns
    if bounded:
        over_columns = np.maximum(over_columns, (LEAST / columns) ** 2)
    over_rows = values.mean(axis=-1).var(axis=-1, ddof=1) / rows if rows > 1 else 0 * over_columns
    total = over_columns + over_rows
    parts = over_columns**2 / (columns - 1) + over_rows**2 / max(rows - 1, 1)
    # Where nothing varies the error is zero, whatever the degrees of freedom.
    freedom = np.divide(total**2, parts, out=np.full_like(total, columns - 1), where=parts > 0)
    return Moments(values.mean(axis=(-2, -1)), np.sqrt(total), freedom)

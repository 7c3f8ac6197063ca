"""What a test of some size could have seen."""

import numpy as np
from jaxtyping import Float
from scipy import stats

from lorafuse_jax.evaluation.statistics.crossed import POWER
from lorafuse_jax.evaluation.statistics.interval import LEVEL
from lorafuse_jax.evaluation.statistics.paired import smallest_p_value


def detectable_difference(difference: Float[np.ndarray, " E"], unit: float = 0.0) -> float | None:
    """The least true mean difference that a single sign-flip test at 5 % finds with power 0.8.

    ``max(q s / sqrt(E), q^2 u / E)`` with q the sum of Student's 0.975 and 0.8 quantiles, s the
    standard deviation seen and u the unit. The second is what binds where (almost) no example
    differs: a true difference itself makes examples differ, each by one unit or more, and about
    eight of them, all in one direction, must differ. So a test in which nothing differed has not
    shown that it could have seen everything.

    Args:
        difference: of each example.
        unit: the least size of a difference that is not zero: 1 for two models that are right or
            wrong, 1/S for one against the mean of S seeds, 0 for real numbers.

    Returns:
        None where no difference could be found: with fewer than six examples no p is below 5 %,
        and real numbers that never differ do not show how much they would.
    """
    examples = len(difference)
    if smallest_p_value(examples) >= 1 - LEVEL:
        return None
    quantiles = stats.t.ppf(0.5 + LEVEL / 2, examples - 1) + stats.t.ppf(POWER, examples - 1)
    by_spread = quantiles * difference.std(ddof=1) / np.sqrt(examples)
    found = max(by_spread, quantiles**2 * unit / examples)
    return float(found) if found > 0 else None


def resolution(*values: Float[np.ndarray, "..."]) -> float:
    """The least step between values in [0, 1]: 1 for right and wrong, 1/k for shares of k."""
    steps = np.diff(np.unique(np.concatenate([v.ravel() for v in values] + [np.array([0.0, 1.0])])))
    return float(steps[steps > 1e-9].min())

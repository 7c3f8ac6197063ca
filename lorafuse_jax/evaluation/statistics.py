"""Intervals and paired tests, over examples and over seeds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

RESAMPLES = 4000
LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A paired difference.

    Attributes:
        difference: mean over examples, with its interval over examples and seeds.
        p_value: of the sign-flip test that it is zero, two-sided.
        detectable: the least true difference that a test of this size finds with power 0.8.
    """

    difference: Interval
    p_value: float
    detectable: float


def wilson(correct: Bool[np.ndarray, " E"]) -> Interval:
    """A share and Wilson's interval (1927), which behaves near 0 and 1."""
    result = stats.binomtest(int(correct.sum()), len(correct))
    bounds = result.proportion_ci(LEVEL, method="wilson")
    return Interval(float(correct.mean()), float(bounds.low), float(bounds.high))


def mean_interval(values: Float[np.ndarray, " E"], seed: int = 0) -> Interval:
    """A mean and its percentile bootstrap interval over examples."""
    rng = np.random.default_rng(seed)
    draws = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    return Interval(float(values.mean()), *_bounds(draws))


def compare_with_mean_seed(
    row: Float[np.ndarray, " E"], seeds: Float[np.ndarray, "S E"], seed: int = 0
) -> Comparison:
    """One model against the mean seed, example by example.

    The p-value is of the sign-flip permutation test of ``d_e = row_e - mean_s seeds_se``: under the
    hypothesis of no difference, the sign of each d_e is a coin toss. It asks about these seeds; the
    interval also resamples the seeds, so that it is wider where the seeds differ.
    """
    difference = row - seeds.mean(axis=0)
    rng = np.random.default_rng(seed)
    count, examples = seeds.shape
    draws = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        chosen = rng.integers(examples, size=examples)
        members = rng.integers(count, size=count)
        draws[k] = row[chosen].mean() - seeds[members][:, chosen].mean()
    return Comparison(
        Interval(float(difference.mean()), *_bounds(draws)),
        sign_flip_p_value(difference, rng),
        detectable_difference(difference),
    )


def sign_flip_p_value(difference: Float[np.ndarray, " E"], rng: np.random.Generator) -> float:
    """Two-sided, with the observed assignment counted, so never zero."""
    observed = abs(difference.mean())
    signs = rng.choice([-1.0, 1.0], size=(RESAMPLES, len(difference)))
    flipped = np.abs(signs @ difference) / len(difference)
    # Ties come from rounding alone.
    return float((1 + (flipped >= observed - 1e-12).sum()) / (RESAMPLES + 1))


def detectable_difference(difference: Float[np.ndarray, " E"]) -> float:
    """The least true mean difference found with power 0.8 at level 0.05 (normal approximation)."""
    quantiles = stats.norm.ppf(1 - (1 - LEVEL) / 2) + stats.norm.ppf(POWER)
    return float(quantiles * difference.std(ddof=1) / np.sqrt(len(difference)))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction for several tests (1979)."""
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected.tolist()


def agreement(correct: Bool[np.ndarray, "S E"]) -> float:
    """The share of examples on which two seeds are both right or both wrong, mean over pairs."""
    count = len(correct)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    return float(np.mean([(correct[i] == correct[j]).mean() for i, j in pairs])) if pairs else 1.0


def _bounds(draws: np.ndarray) -> tuple[float, float]:
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)

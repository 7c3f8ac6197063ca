"""Tests of a paired difference over examples, the models as they are; exact where they can be."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from lorafuse_jax.evaluation.statistics.crossed import gain_over_seeds, whole_at
from lorafuse_jax.evaluation.statistics.interval import Interval
from lorafuse_jax.evaluation.statistics.resampling import AT_ONCE, RESAMPLES

ROUNDING = 1e-13
"""Of the FFT: a p-value below it is given as this."""


@dataclass(frozen=True)
class Exchange:
    """Two models on the same examples.

    Attributes:
        gained: examples on which the first scores higher: right, and the second wrong.
        lost: the other way round.
        p_value: exact test that both are equally many, two-sided: McNemar's where answers are right
            or wrong, the sign test where there are shares.
        difference: mean over examples of the first's value minus the second's, with its interval
            over examples.
        corrected_p: of ``p_value``, over a family that is named where it is used. None: not one.
    """

    gained: int
    lost: int
    p_value: float
    difference: Interval
    corrected_p: float | None = None


def exchange(first: Float[np.ndarray, " E"], second: Float[np.ndarray, " E"]) -> Exchange:
    """One model against another, example by example; values in [0, 1]."""
    gained, lost = int((first > second).sum()), int((first < second).sum())
    p_value = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    difference = gain_over_seeds(first, second[None], bounded=True)
    return Exchange(gained, lost, p_value, difference.interval())


def sign_flip_p_value(difference: Float[np.ndarray, " E"], seed: int = 0) -> float:
    """That a mean difference is zero, two-sided; never zero itself.

    Were there no difference, the sign of each one would be a coin toss. Right and wrong answers
    give differences on a lattice, whose sum has an exact distribution: with ``m_e`` the differences
    as whole numbers its characteristic function is ``prod_e cos(m_e t)``, inverted by one FFT. Real
    numbers (log-likelihoods) are tested by random flips, the observed one counted; a few of them,
    such as the gains of some groups, by all flips.
    """
    scale = whole_at(difference)
    if scale is None:
        few = 2 ** len(difference) <= RESAMPLES
        return _by_all_flips(difference) if few else _by_random_flips(difference, seed)
    lattice = np.round(difference * scale).astype(np.int64)
    magnitudes, repeats = np.unique(np.abs(lattice[lattice != 0]), return_counts=True)
    largest, observed = int(magnitudes @ repeats), abs(int(lattice.sum()))
    period = 2 * largest + 1
    angles = 2 * np.pi * np.arange(period) / period
    characteristic = np.ones(period)
    for magnitude, repeat in zip(magnitudes, repeats, strict=True):
        characteristic *= np.cos(angles * magnitude) ** repeat
    probability = np.fft.fft(characteristic).real / period  # of the sums 0..largest, then negative
    sums = np.minimum(np.arange(period), period - np.arange(period))
    least = max(smallest_p_value(int(repeats.sum())), ROUNDING)
    return float(np.clip(probability[sums >= observed].sum(), least, 1.0))


def smallest_p_value(count: int) -> float:
    """The least p that a two-sided sign-flip test of so many differences can give: ``2^(1-n)``."""
    return min(1.0, 2.0 ** (1 - count))


def _by_all_flips(difference: Float[np.ndarray, " n"]) -> float:
    signs = 1 - 2 * np.unpackbits(
        np.arange(2 ** len(difference), dtype=">u2").view(np.uint8).reshape(-1, 2), axis=1
    )[:, -len(difference) :].astype(float)
    sums, observed = np.abs(signs @ difference), abs(difference.sum())
    return float((sums >= observed * (1 - 1e-12)).mean())


def _by_random_flips(difference: Float[np.ndarray, " E"], seed: int) -> float:
    rng = np.random.default_rng(seed)
    total, observed = difference.sum(), abs(difference.sum())
    step, reached = max(1, AT_ONCE // len(difference)), 0
    for at in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - at)
        drawn = rng.integers(0, 256, (rows, -(-len(difference) // 8)), dtype=np.uint8)
        flipped = np.unpackbits(drawn, axis=1, count=len(difference)).astype(np.float32)
        sums = total - 2 * (flipped @ difference.astype(np.float32))
        # Ties come from rounding alone.
        reached += int((np.abs(sums) >= observed * (1 - 1e-5)).sum())
    return (1 + reached) / (RESAMPLES + 1)

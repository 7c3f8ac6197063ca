"""The gain of one model over its own mean seed, in several groups of seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import stats

from lorafuse_jax.evaluation.statistics import (
    Finding,
    Interval,
    conclude,
    gain_over_groups,
    hierarchical_bootstrap,
    holm,
    sign_flip_p_value,
)


@dataclass(frozen=True)
class GroupedGain:
    """The mean gain over groups.

    Attributes:
        by_group: gain in each group, in the order of the groups.
        difference: its mean, with its interval over groups and examples (Student's t, see
            ``statistics.crossed``).
        p_value: of the same estimate that the mean is zero, two-sided; below 0.05 exactly where
            the interval excludes zero.
        corrected_p: Holm's over the tested rows.
        finding: what may be said, for seeds in general.
        detectable: the least true gain that so many groups and examples find with power 0.8; None
            where nothing varied.
        sign_flip_p: exact test over groups alone: their gains' signs are coin tosses. Assumes
            nothing, but cannot be below ``2^(1-G)``.
        student_p: Student's t-test over groups alone; assumes that gains vary normally.
        bootstrap: the hierarchical bootstrap's interval, too narrow with few groups.
    """

    by_group: list[float]
    difference: Interval
    p_value: float
    corrected_p: float
    finding: Finding
    detectable: float | None
    sign_flip_p: float
    student_p: float
    bootstrap: Interval


def grouped_gain(
    rows: Float[np.ndarray, "G E"], seeds: Sequence[Float[np.ndarray, "_ E"]], *, bounded: bool
) -> GroupedGain:
    """One model's, not yet corrected.

    Args:
        rows: of the model, a row a group.
        seeds: of each group.
        bounded: whether values are shares in [0, 1].
    """
    gains = rows - np.stack([group.mean(axis=0) for group in seeds])
    estimate, each = gain_over_groups(gains, bounded=bounded), gains.mean(axis=1)
    return GroupedGain(
        each.tolist(),
        estimate.interval(),
        estimate.p_value(),
        estimate.p_value(),
        "open",
        estimate.detectable(),
        sign_flip_p_value(each),
        float(stats.ttest_1samp(each, 0).pvalue) if np.ptp(each) > 0 else 1.0,
        hierarchical_bootstrap(rows, seeds),
    )


def corrected(gains: Sequence[GroupedGain], margin: float | None) -> list[GroupedGain]:
    """One family of tests, corrected, with what may be said.

    Args:
        gains: of all tested rows.
        margin: the largest difference that is called none; None: equivalence is not asked.
    """
    p_values = holm([gain.p_value for gain in gains])
    return [
        replace(gain, corrected_p=p, finding=conclude(gain.difference, p, margin=margin))
        for gain, p in zip(gains, p_values, strict=True)
    ]

"""Intervals and paired tests, over examples, over seeds and over groups of seeds.

Three questions, kept apart throughout. Would the difference hold on other examples, with these
models: ``paired``. With other seeds too: ``crossed``. And if the seeds were trained and fused anew,
as several groups show: ``hierarchical``. What each errs by is measured on data with known effects,
``experiments/error_rates.py``.
"""

from lorafuse_jax.evaluation.statistics.comparison import (
    Comparison,
    Finding,
    compare_with_mean_seed,
    conclude,
)
from lorafuse_jax.evaluation.statistics.correction import holm
from lorafuse_jax.evaluation.statistics.crossed import (
    POWER,
    Estimate,
    crossed_estimate,
    gain_over_groups,
    gain_over_seeds,
    whole_at,
)
from lorafuse_jax.evaluation.statistics.hierarchical import (
    hierarchical_bootstrap,
    pigeonhole_bootstrap,
)
from lorafuse_jax.evaluation.statistics.interval import (
    LEVEL,
    Interval,
    accuracy_interval,
    mean_interval,
    wilson,
)
from lorafuse_jax.evaluation.statistics.paired import (
    Exchange,
    exchange,
    sign_flip_p_value,
    smallest_p_value,
)
from lorafuse_jax.evaluation.statistics.power import detectable_difference, resolution

__all__ = [
    "LEVEL",
    "POWER",
    "Comparison",
    "Estimate",
    "Exchange",
    "Finding",
    "Interval",
    "accuracy_interval",
    "compare_with_mean_seed",
    "conclude",
    "crossed_estimate",
    "detectable_difference",
    "exchange",
    "gain_over_groups",
    "gain_over_seeds",
    "hierarchical_bootstrap",
    "holm",
    "mean_interval",
    "pigeonhole_bootstrap",
    "resolution",
    "sign_flip_p_value",
    "smallest_p_value",
    "whole_at",
    "wilson",
]

"""Accuracy by how many seeds were fused, over their subsets; described, and not tested."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lorafuse_jax.evaluation.scores import Scores

NAME = re.compile(r"(?P<operator>.+)\((?P<seeds>\d+(\+\d+)*)\)")
"""``mean(11+42)``."""


@dataclass(frozen=True)
class SizeAccuracy:
    """The fused models of subsets of one size.

    Attributes:
        operator: that fused them; "" for the single seeds.
        size: seeds in a subset.
        subsets: how many there are.
        mean: of their accuracies, in [0, 1].
        low: the lowest of them.
        high: the highest.
        gain: mean accuracy minus that of the single seeds.
        error: its standard error over examples, paired.
        log_likelihood: mean, nats per answer token; None where there is no such thing.
    """

    operator: str
    size: int
    subsets: int
    mean: float
    low: float
    high: float
    gain: float
    error: float
    log_likelihood: float | None


def operators_of(scores: Scores) -> set[str]:
    """Those that fused subsets."""
    found = (NAME.fullmatch(scores.models[number]) for number in scores.rows_of("subset"))
    return {name["operator"] for name in found if name}


def accuracy_by_size(scores: Scores, of_all: Mapping[str, str]) -> list[SizeAccuracy]:
    """The single seeds, then every operator's sizes in order; empty where no subset answered.

    They get no p-values: tests of so many models that share their seeds would cost the fused ones
    of all seeds, which are what is asked about, most of their power.

    Args:
        scores: with at least one seed and two examples.
        of_all: operator -> the fused model of all seeds, where that is one of the run's own.
    """
    rows: dict[tuple[str, int], list[int]] = {}
    for number in scores.rows_of("subset"):
        if found := NAME.fullmatch(scores.models[number]):
            size = found["seeds"].count("+") + 1
            rows.setdefault((found["operator"], size), []).append(number)
    if not rows:
        return []
    seeds = scores.rows_of("seed")
    for operator in {operator for operator, _ in rows}:
        if of_all.get(operator) in scores.models:
            rows[operator, len(seeds)] = [scores.models.index(of_all[operator])]
    rows["", 1] = seeds
    return [_line(scores, *key, rows[key]) for key in sorted(rows)]


def _line(scores: Scores, operator: str, size: int, rows: list[int]) -> SizeAccuracy:
    each = scores.primary[rows].mean(axis=1)
    gains: Float[np.ndarray, " E"]
    gains = scores.primary[rows].mean(axis=0) - scores.primary[scores.rows_of("seed")].mean(axis=0)
    likelihood = scores.log_likelihood
    return SizeAccuracy(
        operator=operator,
        size=size,
        subsets=len(rows),
        mean=float(each.mean()),
        low=float(each.min()),
        high=float(each.max()),
        gain=float(gains.mean()),
        error=float(gains.std(ddof=1) / len(gains) ** 0.5),
        log_likelihood=None if likelihood is None else float(likelihood[rows].mean()),
    )

"""The fused models of subsets of the seeds, by which seeds were fused; described, and not tested.

They get no p-values: tests of so many models that share their seeds would cost the fused ones of
all seeds, which are what is asked about, most of their power.
"""

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.seed_count import SizeLine, by_number_of_seeds

NAME = re.compile(r"(?P<operator>.+)\((?P<seeds>\d+(\+\d+)*)\)")
"""``mean(11+42)``."""


def operators_of(scores: Scores) -> set[str]:
    """Those that fused subsets."""
    return {operator for operator, _, _ in _named(scores)}


def accuracy_by_size(scores: Scores, of_all: Mapping[str, str]) -> list[SizeLine]:
    """Seeds, vote, union and, where subsets were fused, every operator, by number of seeds.

    Args:
        scores: with at least one seed and two examples.
        of_all: operator -> the fused model of all seeds, where that is one of the run's own.

    Returns:
        A line a size; none for a single seed.
    """
    seeds = scores.rows_of("seed")
    if len(seeds) < 2:
        return []
    names = [scores.models[number] for number in seeds]
    fused: dict[str, dict[frozenset[str], Float[np.ndarray, " E"]]] = {}
    for operator, subset, number in _named(scores):
        fused.setdefault(operator, {})[subset] = scores.primary[number]
    for operator, own in fused.items():
        if of_all.get(operator) in scores.models:
            own[frozenset(names)] = scores.primary[scores.models.index(of_all[operator])]
    answers = [scores.answers[number] for number in seeds]
    return by_number_of_seeds(names, scores.primary[seeds], answers, fused)


def _named(scores: Scores) -> list[tuple[str, frozenset[str], int]]:
    """Operator, seeds and row of every fused subset."""
    found = []
    for number in scores.rows_of("subset"):
        if name := NAME.fullmatch(scores.models[number]):
            subset = frozenset(f"seed-{seed}" for seed in name["seeds"].split("+"))
            found.append((name["operator"], subset, number))
    return found

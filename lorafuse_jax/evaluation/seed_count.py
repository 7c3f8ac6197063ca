"""How results move with the number of seeds: over all subsets of the seeds that there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Float

from lorafuse_jax.evaluation.statistics import Interval, accuracy_interval, crossed_estimate
from lorafuse_jax.evaluation.vote import coded, majority_of
from lorafuse_jax.types import UserError

MOST_VOTERS = 12
"""Votes of 4095 subsets take a second or two; each further seed doubles that."""


@dataclass(frozen=True)
class FusedOfSize:
    """One operator on subsets of one size.

    Attributes:
        subsets: that were fused, of all of the size.
        accuracy: mean over these.
        gain: over the mean of the same subset's seeds.
        low: the lowest accuracy of a single subset.
        high: the highest.
    """

    subsets: int
    accuracy: Interval
    gain: Interval
    low: float
    high: float


@dataclass(frozen=True)
class SizeLine:
    """All subsets of one size. Intervals are over examples, seeds as they are.

    Subsets share seeds, so lines of neighbouring sizes move together; how far other seeds would
    lie from these, only other seeds show.

    Attributes:
        seeds: k, of each subset.
        subsets: number of them.
        mean: accuracy of one seed, the same at every size.
        union: share of examples that at least one of k seeds has right.
        intersection: that all have right.
        vote: of the majority; None for fewer than three seeds, where answers cannot be voted on,
            and beyond ``MOST_VOTERS`` seeds in all.
        fused: by operator, where subsets of this size were fused.
    """

    seeds: int
    subsets: int
    mean: Interval
    union: Interval
    intersection: Interval
    vote: Interval | None
    fused: Mapping[str, FusedOfSize] = field(default_factory=dict)


def by_number_of_seeds(
    names: Sequence[str],
    values: Float[np.ndarray, "S E"],
    answers: Sequence[Sequence[str | None]] | None = None,
    fused: Mapping[str, Mapping[frozenset[str], Float[np.ndarray, " E"]]] | None = None,
) -> list[SizeLine]:
    """A line a size, from one seed to all.

    Union and intersection are expectations over all subsets in closed form: of an example that c of
    S seeds have right, k seeds miss it with probability ``C(S-c, k) / C(S, k)`` (the estimator of
    pass@k, Chen et al. 2021).

    Args:
        names: of the seeds.
        values: of the seeds; right is 1.
        answers: [S][E] of the seeds, for the vote; None: there is none.
        fused: operator -> which seeds -> values of their fusion.

    Raises:
        UserError: a subset of unknown seeds.
    """
    count = len(names)
    fused = fused or {}
    for operator, results in fused.items():
        unknown = sorted(set().union(*results) - set(names))
        if unknown:
            raise UserError(
                f"{operator} was fused of {', '.join(unknown)}, but the seeds are "
                f"{', '.join(names)}"
            )
    codes = None
    if answers is not None and count <= MOST_VOTERS:
        votable = any(a is not None for line in answers for a in line)
        codes = coded(answers) if votable else None
    return [_line(k, names, values, codes, fused) for k in range(1, count + 1)]


def _line(
    size: int,
    names: Sequence[str],
    values: Float[np.ndarray, "S E"],
    codes: np.ndarray | None,
    fused: Mapping[str, Mapping[frozenset[str], Float[np.ndarray, " E"]]],
) -> SizeLine:
    count, right = len(names), (values == 1).sum(axis=0)
    number_of = {name: number for number, name in enumerate(names)}
    ways = comb(count, size)
    missed = np.array([comb(count - c, size) / ways for c in range(count + 1)])
    every = np.array([comb(c, size) / ways for c in range(count + 1)])
    vote = None
    if codes is not None and size > 2:
        vote = accuracy_interval(_votes(size, values, codes))
    results = {}
    for operator, table in fused.items():
        chosen = {subset: row for subset, row in table.items() if len(subset) == size}
        if chosen:
            of_subset = {s: values[[number_of[name] for name in s]].mean(axis=0) for s in chosen}
            rows = np.array(list(chosen.values()))
            gain = np.mean([chosen[subset] - of_subset[subset] for subset in chosen], axis=0)
            each = rows.mean(axis=1)
            results[operator] = FusedOfSize(
                len(chosen),
                accuracy_interval(rows.mean(axis=0)),
                _interval(gain),
                float(each.min()),
                float(each.max()),
            )
    return SizeLine(
        size,
        ways,
        accuracy_interval(values.mean(axis=0)),
        accuracy_interval(1 - missed[right]),
        accuracy_interval(every[right]),
        vote,
        results,
    )


def _votes(
    size: int, values: Float[np.ndarray, "S E"], codes: np.ndarray
) -> Float[np.ndarray, " E"]:
    """Value of the vote's winner, mean over subsets."""
    subsets = list(combinations(range(len(values)), size))
    total = np.zeros(values.shape[1])
    for subset in map(list, subsets):
        winners = majority_of(codes[subset])
        total += values[subset][winners, np.arange(len(total))]
    return total / len(subsets)


def _interval(gain: Float[np.ndarray, " E"]) -> Interval:
    return crossed_estimate(gain[None], bounded=True).interval()

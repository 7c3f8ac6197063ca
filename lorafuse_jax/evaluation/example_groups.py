"""Results by groups of examples: MMLU's subjects, GSM-Symbolic's templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from lorafuse_jax.evaluation.lineup import TESTED, Entrant, RowKind, of_kind, values_of
from lorafuse_jax.evaluation.statistics import Interval, crossed_estimate


@dataclass(frozen=True)
class GroupLine:
    """One line of the table by groups.

    Attributes:
        name: what it is of.
        kind: as in the table.
        accuracy: by group.
        macro: mean of the groups' accuracies, each counting the same, with its interval over
            groups: for groups that stand for others, as templates do.
        spread: standard deviation of the groups' accuracies.
        noise: what the spread would be, were all groups equally hard: the sampling of their
            examples alone.
        gain: of the macro average over the mean seed, with its interval over groups, where it is
            tested. Examples of one template are not independent of each other, groups are: if this
            interval is much wider than the one over examples, believe this one.
    """

    name: str
    kind: RowKind
    accuracy: Mapping[str, float]
    macro: Interval
    spread: float
    noise: float
    gain: Interval | None = None


@dataclass(frozen=True)
class ExampleGroups:
    """Results by group.

    Attributes:
        sizes: examples of each group, in order of first appearance.
        lines: one a row of the table.
    """

    sizes: Mapping[str, int]
    lines: list[GroupLine] = field(default_factory=list)


def by_example_group(groups: Sequence[str], entrants: list[Entrant]) -> ExampleGroups | None:
    """The line-up's values by group.

    Args:
        groups: of each example; "" is none, and then a group like others.
        entrants: the line-up.

    Returns:
        None where there are not two groups.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 2:
        return None
    place = {name: number for number, name in enumerate(names)}
    index = np.array([place[group] for group in groups])
    sizes = np.bincount(index)
    mean = _by_group(values_of(of_kind(entrants, "seed")).mean(axis=0), index, sizes)
    lines = [_line(one, names, index, sizes, mean) for one in entrants]
    return ExampleGroups(dict(zip(names, sizes.tolist(), strict=True)), lines)


def _line(
    one: Entrant,
    names: list[str],
    index: Int[np.ndarray, " E"],
    sizes: Int[np.ndarray, " K"],
    mean_seed: Float[np.ndarray, " K"],
) -> GroupLine:
    shares = _by_group(one.values, index, sizes)
    return GroupLine(
        one.name,
        one.kind,
        dict(zip(names, shares.tolist(), strict=True)),
        _over_groups(shares, (0.0, 1.0)),
        float(shares.std(ddof=1)),
        float(np.sqrt((one.values.var(ddof=1) / sizes).mean())),
        _over_groups(shares - mean_seed, (-1.0, 1.0)) if one.kind in TESTED else None,
    )


def _by_group(
    values: Float[np.ndarray, " E"], index: Int[np.ndarray, " E"], sizes: Int[np.ndarray, " K"]
) -> Float[np.ndarray, " K"]:
    return np.bincount(index, values, len(sizes)) / sizes


def _over_groups(shares: Float[np.ndarray, " K"], within: tuple[float, float]) -> Interval:
    """Student's, groups being the independent things."""
    return crossed_estimate(shares[None], bounded=False, within=within).interval()

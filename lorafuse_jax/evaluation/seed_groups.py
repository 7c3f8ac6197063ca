"""Several runs of one recipe with other seeds: is the gain one of the recipe, or of these seeds?

A run trains a group of seeds and fuses them. One run has one fused model of a kind; how it would
come out with other seeds, only several runs show.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorafuse_jax.evaluation.grouped_gain import GroupedGain, corrected, grouped_gain
from lorafuse_jax.evaluation.lineup import (
    TESTED,
    Entrant,
    RowKind,
    likelihoods_of,
    lineup,
    of_kind,
    values_of,
)
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.statistics import (
    Interval,
    crossed_estimate,
    gain_over_groups,
    smallest_p_value,
)
from lorafuse_jax.evaluation.summary import MARGIN
from lorafuse_jax.types import UserError


@dataclass(frozen=True)
class GroupedRow:
    """One line of the table over groups.

    Attributes:
        name: what it is of; seeds themselves have no line, as every group has its own.
        kind: as in a single run's table.
        by_group: accuracy in each group.
        accuracy: its mean, with its interval over groups and examples.
        gain: in accuracy over the group's mean seed, where it is tested.
        likelihood_gain: likewise in nats a token, a family of its own; None where there is no
            log-likelihood.
        gain_over_best: in accuracy over the group's best seed on validation, where it is tested;
            not corrected.
    """

    name: str
    kind: RowKind
    by_group: list[float]
    accuracy: Interval
    gain: GroupedGain | None = None
    likelihood_gain: GroupedGain | None = None
    gain_over_best: Interval | None = None


@dataclass(frozen=True)
class GroupedSummary:
    """One task over several groups of seeds.

    Attributes:
        task: as in each run.
        metric: that models are compared by.
        examples: E, the same in all groups.
        groups: names of the runs.
        rows: as of a single run, but for the seeds themselves.
        smallest_p: the least p that a sign-flip test of so many groups can give.
        not_everywhere: fused models and controls that some groups lack, with those groups: these
            are not compared.
        margin: the largest difference in accuracy that findings call none.
    """

    task: str
    metric: str
    examples: int
    groups: list[str]
    rows: list[GroupedRow]
    smallest_p: float
    not_everywhere: dict[str, list[str]]
    margin: float


def summarize_groups(
    groups: Sequence[Scores],
    best_seeds: Sequence[str],
    names: Sequence[str],
) -> GroupedSummary:
    """One task's results over several runs.

    Args:
        groups: a matrix a run, of the same task and examples, with other seeds each.
        best_seeds: of each run the seed that is best on validation.
        names: of the runs, for tables and messages.

    Raises:
        UserError: there is one group only, tasks, examples or metrics differ, two groups share a
            seed, or a group is not fit for ``summarize``.
    """
    _check(groups, names)
    lineups = [lineup(one, best) for one, best in zip(groups, best_seeds, strict=True)]
    aligned = _aligned(lineups)
    rows = [_row(entrants, lineups) for entrants in aligned]
    return GroupedSummary(
        groups[0].task,
        groups[0].metric,
        len(groups[0].ids),
        list(names),
        _corrected(rows, MARGIN),
        smallest_p_value(len(groups)),
        _not_everywhere(lineups, names),
        MARGIN,
    )


def _check(groups: Sequence[Scores], names: Sequence[str]) -> None:
    first, first_name = groups[0], names[0]
    if len(groups) < 2:
        raise UserError(f"{first_name}: one run is one group of seeds; give two or more to compare")
    owners: dict[str, str] = {}
    for one, name in zip(groups, names, strict=True):
        different = [
            what
            for what, ours, theirs in (
                ("task", first.task, one.task),
                ("examples", first.ids, one.ids),
                ("references", first.references, one.references),
                ("metrics", list(first.values), list(one.values)),
                ("log-likelihoods", first.log_likelihood is None, one.log_likelihood is None),
            )
            if ours != theirs
        ]
        if different:
            raise UserError(
                f"{first.task}: {name} and {first_name} differ in {', '.join(different)}; only "
                "runs that were asked the same can be compared: evaluate both alike"
            )
        for seed in _seeds(one):
            if seed in owners:
                raise UserError(
                    f"{one.task}: {seed} is in {owners[seed]} and in {name}; groups must have "
                    "different seeds, or they are not independent: train one of them with others"
                )
            owners[seed] = name


def _seeds(scores: Scores) -> list[str]:
    return [scores.models[number] for number in scores.rows_of("seed")]


def _key(entrant: Entrant) -> tuple[str, str]:
    """What is the same model in every group; the best seed has another name in each."""
    return (entrant.kind, "" if entrant.kind == "best seed" else entrant.name)


def _aligned(lineups: Sequence[list[Entrant]]) -> list[list[Entrant]]:
    """[rows][groups], of the rows that all groups have."""
    tables = [{_key(e): e for e in line if e.kind != "seed"} for line in lineups]
    common = [key for key in tables[0] if all(key in table for table in tables)]
    return [[table[key] for table in tables] for key in common]


def _not_everywhere(lineups: Sequence[list[Entrant]], names: Sequence[str]) -> dict[str, list[str]]:
    fused = [[one.name for one in of_kind(line, "fused", "control")] for line in lineups]
    every = dict.fromkeys(model for line in fused for model in line)
    lacking = {m: [n for n, line in zip(names, fused, strict=True) if m not in line] for m in every}
    return {model: groups for model, groups in lacking.items() if groups}


def _row(entrants: list[Entrant], lineups: Sequence[list[Entrant]]) -> GroupedRow:
    """One row of the table, its tests not yet corrected."""
    one, values = entrants[0], values_of(entrants)
    row = GroupedRow(
        "best on validation" if one.kind == "best seed" else one.name,
        one.kind,
        values.mean(axis=1).tolist(),
        crossed_estimate(values, bounded=True, within=(0.0, 1.0)).interval(),
    )
    if one.kind not in TESTED:
        return row
    seeds = [of_kind(line, "seed") for line in lineups]
    best = values_of([of_kind(line, "best seed")[0] for line in lineups])
    likely = one.log_likelihood is not None
    return replace(
        row,
        gain=grouped_gain(values, [values_of(group) for group in seeds], bounded=True),
        likelihood_gain=grouped_gain(
            likelihoods_of(entrants), [likelihoods_of(group) for group in seeds], bounded=False
        )
        if likely
        else None,
        gain_over_best=gain_over_groups(values - best, bounded=True).interval(),
    )


def _corrected(rows: Sequence[GroupedRow], margin: float) -> list[GroupedRow]:
    gains = iter(corrected([row.gain for row in rows if row.gain], margin))
    likely = iter(corrected([row.likelihood_gain for row in rows if row.likelihood_gain], None))
    return [
        replace(
            row,
            gain=next(gains) if row.gain else None,
            likelihood_gain=next(likely) if row.likelihood_gain else None,
        )
        for row in rows
    ]

"""From a matrix to all that is said of a task."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lorafuse_jax.evaluation.complementarity import Complementarity, complementarity
from lorafuse_jax.evaluation.example_groups import ExampleGroups, by_example_group
from lorafuse_jax.evaluation.lineup import TESTED, Entrant, RowKind, lineup, of_kind, values_of
from lorafuse_jax.evaluation.rows import Row, table_rows
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.statistics import (
    Comparison,
    Interval,
    accuracy_interval,
    compare_with_mean_seed,
    holm,
    whole_at,
)

MARGIN = 0.02
"""Differences in accuracy up to two points are called none; ours, as there is no convention."""

ACCURACY = "accuracy"

__all__ = ["ACCURACY", "MARGIN", "MetricLine", "Row", "RowKind", "Summary", "summarize"]


@dataclass(frozen=True)
class MetricLine:
    """One line of the table by one metric.

    Attributes:
        name: what it is of.
        kind: as in the table.
        value: mean over examples.
        gain: against the mean seed, where it is tested.
        p_value: corrected (Holm) over the lines of this metric that are tested.
    """

    name: str
    kind: RowKind
    value: Interval
    gain: Comparison | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Summary:
    """One task's results.

    Attributes:
        task: ``name/split``.
        examples: E.
        rows: base, seeds, their mean, the best by validation, fused ones, controls, ensemble, vote,
            union.
        best_seed: name of the best by validation.
        detectable: the true difference in accuracy that a single test of this size finds with
            power 0.8, largest over rows; None where none could be found.
        twins: pairs of fused models that gave the same answer to every example.
        metric: name of the metric in ``rows``; decided on before: the benchmark's first.
        metrics: the same table by every metric, the first included. Each is a family of its own;
            the first alone decides, the others show how far it depends on how answers are read.
        complementarity: what models have right beyond one another.
        example_groups: results by subject or template; None where examples have no groups.
        margin: the largest difference in accuracy that findings call none.
        measure: what the compared values are called: accuracy where answers are right or wrong, or
            right so many times of some; else the metric's own name.
    """

    task: str
    examples: int
    rows: list[Row]
    best_seed: str
    detectable: float | None
    twins: list[tuple[str, str]]
    metric: str = "correct"
    metrics: Mapping[str, list[MetricLine]] = field(default_factory=dict)
    complementarity: Complementarity | None = None
    example_groups: ExampleGroups | None = None
    margin: float = MARGIN
    measure: str = ACCURACY

    def row(self, kind: RowKind) -> Row:
        """The first row of that kind."""
        return next(row for row in self.rows if row.kind == kind)


def summarize(scores: Scores, best_seed: str) -> Summary:
    """All that is said of one task.

    Args:
        scores: with at least one seed and two examples.
        best_seed: name of the seed that is best on validation.

    Raises:
        UserError: there is no seed, or not that one, or only one example.
    """
    scores = scores.without_subsets()
    entrants = lineup(scores, best_seed)
    measure = scores.metric if whole_at(scores.primary) is None else ACCURACY
    rows = table_rows(entrants, MARGIN if measure == ACCURACY else None)
    found = complementarity(scores, entrants)
    return Summary(
        scores.task,
        len(scores.ids),
        rows,
        best_seed,
        _largest([row.accuracy_gain.detectable for row in rows if row.accuracy_gain]),
        _twins(scores),
        metric=scores.metric,
        metrics={
            metric: _lines_of(rows)
            if metric == scores.metric
            else _metric_lines(lineup(scores, best_seed, metric))
            for metric in scores.values
        },
        complementarity=found,
        example_groups=by_example_group(scores.groups, entrants),
        measure=measure,
    )


def _lines_of(rows: list[Row]) -> list[MetricLine]:
    return [MetricLine(r.name, r.kind, r.accuracy, r.accuracy_gain, r.accuracy_p) for r in rows]


def _metric_lines(entrants: list[Entrant]) -> list[MetricLine]:
    seeds, tested = values_of(of_kind(entrants, "seed")), of_kind(entrants, *TESTED)
    gains = {one.name: compare_with_mean_seed(one.values, seeds) for one in tested}
    corrected = holm([gain.p_value for gain in gains.values()])
    p_values = dict(zip(gains, corrected, strict=True))
    return [
        MetricLine(
            e.name, e.kind, accuracy_interval(e.values), gains.get(e.name), p_values.get(e.name)
        )
        for e in entrants
    ]


def _largest(found: list[float | None]) -> float | None:
    known = [value for value in found if value is not None]
    return max(known) if known and len(known) == len(found) else None


def _twins(scores: Scores) -> list[tuple[str, str]]:
    fused = scores.rows_of("fused")
    return [
        (scores.models[i], scores.models[j])
        for place, i in enumerate(fused)
        for j in fused[place + 1 :]
        if scores.answers[i] == scores.answers[j]
        and np.array_equal(scores.primary[i], scores.primary[j])
    ]

"""From matrices to the rows of the table."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.statistics import (
    Comparison,
    Exchange,
    Interval,
    accuracy_interval,
    agreement,
    compare_with_mean_seed,
    holm,
    mcnemar,
    mean_interval,
)
from lorafuse_jax.evaluation.vote import majority
from lorafuse_jax.types import UserError

RowKind = Literal["base", "seed", "mean seed", "best seed", "fused", "vote", "union"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what it is of.
        kind: decides over colour and place.
        accuracy: share of right answers.
        log_likelihood: nats per answer token, mean over examples; None where there is no such
            thing.
        accuracy_gain: against the mean seed, where it is tested.
        likelihood_gain: likewise.
        accuracy_p: corrected for the number of rows tested (Holm).
        likelihood_p: likewise.
        against_best: right and wrong answers exchanged with the best seed on validation, where it
            is tested; its p-value is not corrected.
        newly_solved: examples right that no seed has right, where it is tested.
    """

    name: str
    kind: RowKind
    accuracy: Interval
    log_likelihood: Interval | None
    accuracy_gain: Comparison | None = None
    likelihood_gain: Comparison | None = None
    accuracy_p: float | None = None
    likelihood_p: float | None = None
    against_best: Exchange | None = None
    newly_solved: int | None = None


@dataclass(frozen=True)
class Summary:
    """One task's table.

    Attributes:
        task: ``name/split``.
        examples: E.
        rows: base, seeds, their mean, the best by validation, fused ones, vote, union.
        best_seed: name of the best by validation.
        agreement: share of examples on which two seeds are both right or both wrong.
        detectable: the true difference in accuracy that a single test of this size finds with
            power 0.8, largest over rows; 0 where none is tested.
        twins: pairs of fused models that gave the same answer to every example.
    """

    task: str
    examples: int
    rows: list[Row]
    best_seed: str
    agreement: float
    detectable: float
    twins: list[tuple[str, str]]

    def row(self, kind: RowKind) -> Row:
        """The first row of that kind."""
        return next(row for row in self.rows if row.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def summarize(scores: Scores, best_seed: str) -> Summary:
    """The table of one task.

    Args:
        scores: with at least one seed and two examples.
        best_seed: name of the seed that is best on validation.

    Raises:
        UserError: there is no seed, or not that one, or only one example.
    """
    _check(scores, best_seed)
    seeds, best = scores.rows_of("seed"), scores.models.index(best_seed)
    rows = [_plain(scores, number, "base") for number in scores.rows_of("base")]
    rows += [_plain(scores, number, "seed") for number in seeds]
    rows.append(_mean_seed(scores, seeds))
    best_row = _plain(scores, best, "best seed")
    rows.append(replace(best_row, name=f"best on validation: {best_seed}"))
    tested = [_tested(scores, number, seeds, best) for number in scores.rows_of("fused")]
    if any(answer for line in scores.answers for answer in line):
        tested.append(_vote(scores, seeds, best))
    rows += _corrected(tested)
    union = scores.primary[seeds].max(axis=0)
    rows.append(Row("any seed right (a bound)", "union", accuracy_interval(union), None))
    return Summary(
        scores.task,
        len(scores.ids),
        rows,
        best_seed,
        agreement(scores.primary[seeds]),
        max((row.accuracy_gain.detectable for row in tested if row.accuracy_gain), default=0.0),
        _twins(scores),
    )


def _check(scores: Scores, best_seed: str) -> None:
    seeds = [scores.models[number] for number in scores.rows_of("seed")]
    if best_seed not in seeds:
        raise UserError(
            f"{scores.task}: no answers of {best_seed}, only of {', '.join(seeds) or 'no seed'}; "
            "run lorafuse evaluate"
        )
    if len(scores.ids) < 2:
        raise UserError(
            f"{scores.task}: one example is too few for statistics; evaluate with a larger --limit"
        )


def _plain(scores: Scores, number: int, kind: RowKind) -> Row:
    likelihood = scores.log_likelihood
    return Row(
        scores.models[number],
        kind,
        accuracy_interval(scores.primary[number]),
        None if likelihood is None else mean_interval(likelihood[number]),
    )


def _mean_seed(scores: Scores, seeds: list[int]) -> Row:
    likelihood = scores.log_likelihood
    return Row(
        "mean of seeds",
        "mean seed",
        mean_interval(scores.primary[seeds].mean(axis=0)),
        None if likelihood is None else mean_interval(likelihood[seeds].mean(axis=0)),
    )


def _tested(scores: Scores, number: int, seeds: list[int], best: int) -> Row:
    row, likelihood = _plain(scores, number, "fused"), scores.log_likelihood
    if likelihood is not None:
        gain = compare_with_mean_seed(likelihood[number], likelihood[seeds])
        row = replace(row, likelihood_gain=gain)
    return _compared(row, scores.primary[number], scores.primary[seeds], scores.primary[best])


def _vote(scores: Scores, seeds: list[int], best: int) -> Row:
    winners = majority([scores.answers[seed] for seed in seeds])
    right = scores.primary[seeds][winners, np.arange(len(scores.ids))]
    row = Row("majority vote", "vote", accuracy_interval(right), None)
    return _compared(row, right, scores.primary[seeds], scores.primary[best])


def _compared(
    row: Row,
    right: Float[np.ndarray, " E"],
    seeds: Float[np.ndarray, "S E"],
    best: Float[np.ndarray, " E"],
) -> Row:
    return replace(
        row,
        accuracy_gain=compare_with_mean_seed(right, seeds),
        against_best=mcnemar(right == 1, best == 1),
        newly_solved=int(((right == 1) & ~(seeds == 1).any(axis=0)).sum()),
    )


def _corrected(rows: list[Row]) -> list[Row]:
    """The rows with p-values corrected over all of them, accuracy and likelihood apart."""
    accuracy = holm([row.accuracy_gain.p_value for row in rows if row.accuracy_gain])
    likelihood = iter(holm([row.likelihood_gain.p_value for row in rows if row.likelihood_gain]))
    return [
        replace(
            row,
            accuracy_p=p_value,
            likelihood_p=next(likelihood) if row.likelihood_gain else None,
        )
        for row, p_value in zip(rows, accuracy, strict=True)
    ]


def _twins(scores: Scores) -> list[tuple[str, str]]:
    fused = scores.rows_of("fused")
    return [
        (scores.models[i], scores.models[j])
        for place, i in enumerate(fused)
        for j in fused[place + 1 :]
        if scores.answers[i] == scores.answers[j] and _same_values(scores, i, j)
    ]


def _same_values(scores: Scores, i: int, j: int) -> bool:
    return bool(np.array_equal(scores.primary[i], scores.primary[j]))

"""From matrices to the rows of the table."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from lorafuse_jax.evaluation.answers import is_correct, majority_vote
from lorafuse_jax.evaluation.predictions import Scores
from lorafuse_jax.evaluation.statistics import (
    Comparison,
    Interval,
    agreement,
    compare_with_mean_seed,
    holm,
    mean_interval,
    wilson,
)
from lorafuse_jax.types import UserError

RowKind = Literal["base", "seed", "mean seed", "best seed", "fused", "vote", "union"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what it is of.
        kind: decides over colour and place.
        accuracy: share of right answers.
        log_likelihood: nats per answer token; None where there is no such thing.
        accuracy_gain: against the mean seed, where it is tested.
        likelihood_gain: likewise.
        accuracy_p: corrected for the number of rows tested (Holm).
        likelihood_p: likewise.
    """

    name: str
    kind: RowKind
    accuracy: Interval
    log_likelihood: Interval | None
    accuracy_gain: Comparison | None = None
    likelihood_gain: Comparison | None = None
    accuracy_p: float | None = None
    likelihood_p: float | None = None


@dataclass(frozen=True)
class Summary:
    """One task's table.

    Attributes:
        task: ``name/split``.
        examples: E.
        rows: base, seeds, their mean, the best by validation, fused ones, vote, union.
        agreement: share of examples on which two seeds are both right or both wrong.
        detectable: least difference in accuracy that this test could have seen, largest over rows.
    """

    task: str
    examples: int
    rows: list[Row]
    agreement: float
    detectable: float

    def row(self, kind: RowKind) -> Row:
        """The one row of that kind."""
        return next(row for row in self.rows if row.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def summarize(scores: Scores, best_seed: str) -> Summary:
    """The table of one task.

    Args:
        scores: with at least one seed.
        best_seed: name of the seed that is best on validation.

    Raises:
        UserError: there is no seed, or not that one.
    """
    of_kind = lambda kind: [n for n, k in enumerate(scores.kinds) if k == kind]  # noqa: E731
    seeds = of_kind("seed")
    if best_seed not in scores.models or not seeds:
        raise UserError(f"{scores.task}: no answers of {best_seed}; run lorafuse evaluate")
    correct, logprob = scores.correct.astype(float), scores.logprob

    def plain(number: int, kind: RowKind, name: str | None = None) -> Row:
        name = name or scores.models[number]
        return Row(name, kind, wilson(scores.correct[number]), mean_interval(logprob[number]))

    best = scores.models.index(best_seed)
    rows = [plain(number, "base") for number in of_kind("base")]
    rows += [plain(number, "seed") for number in seeds]
    rows.append(
        Row(
            "mean of seeds",
            "mean seed",
            mean_interval(correct[seeds].mean(axis=0)),
            mean_interval(logprob[seeds].mean(axis=0)),
        )
    )
    rows.append(plain(best, "best seed", f"best on validation: {best_seed}"))
    tested = [_tested(scores, number, seeds) for number in of_kind("fused")]
    tested.append(_vote(scores, seeds))
    rows += _corrected(tested)
    union = np.asarray(scores.correct[seeds].any(axis=0))
    rows.append(Row("any seed right (a bound)", "union", wilson(union), None))
    return Summary(
        scores.task,
        len(scores.ids),
        rows,
        agreement(scores.correct[seeds]),
        max(row.accuracy_gain.detectable for row in tested if row.accuracy_gain),
    )


def _tested(scores: Scores, number: int, seeds: list[int]) -> Row:
    correct = scores.correct.astype(float)
    return Row(
        scores.models[number],
        "fused",
        wilson(scores.correct[number]),
        mean_interval(scores.logprob[number]),
        compare_with_mean_seed(correct[number], correct[seeds]),
        compare_with_mean_seed(scores.logprob[number], scores.logprob[seeds]),
    )


def _vote(scores: Scores, seeds: list[int]) -> Row:
    votes = [
        majority_vote([scores.predictions[seed][e] for seed in seeds])
        for e in range(len(scores.ids))
    ]
    right = np.array([is_correct(v, r) for v, r in zip(votes, scores.references, strict=True)])
    gain = compare_with_mean_seed(right.astype(float), scores.correct[seeds].astype(float))
    return Row("majority vote", "vote", wilson(right), None, gain)


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

"""The rows of a task's table: every line of the line-up, and the tested ones' tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lorafuse_jax.evaluation.lineup import (
    TESTED,
    Entrant,
    RowKind,
    likelihoods_of,
    of_kind,
    values_of,
)
from lorafuse_jax.evaluation.statistics import (
    Comparison,
    Exchange,
    Finding,
    Interval,
    accuracy_interval,
    compare_with_mean_seed,
    conclude,
    exchange,
    holm,
    mean_interval,
)


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
        accuracy_p: corrected (Holm) over the family: all rows of the table that are tested.
        likelihood_p: likewise, a family of its own.
        against_members: right and wrong answers exchanged with every seed, by name, where it is
            tested; ``corrected_p`` is over all pairs of a tested row and a seed.
        every_member_p: that it is better than every seed: the largest p of ``against_members``, 1
            where it has not gained on one of them (an intersection-union test, Berger 1982, which
            needs no correction for the number of seeds), corrected over the tested rows.
        finding: what may be said of its accuracy against the mean seed.
        likelihood_finding: likewise of its log-likelihood; equivalence is not asked.
    """

    name: str
    kind: RowKind
    accuracy: Interval
    log_likelihood: Interval | None
    accuracy_gain: Comparison | None = None
    likelihood_gain: Comparison | None = None
    accuracy_p: float | None = None
    likelihood_p: float | None = None
    against_members: Mapping[str, Exchange] = field(default_factory=dict)
    every_member_p: float | None = None
    finding: Finding | None = None
    likelihood_finding: Finding | None = None


def table_rows(entrants: list[Entrant], margin: float | None) -> list[Row]:
    """All rows, the tested ones with their tests, corrected.

    Args:
        entrants: the line-up.
        margin: the largest difference that is called none; None: equivalence is not asked.
    """
    tested = [_tested(one, entrants) for one in of_kind(entrants, *TESTED)]
    corrected = iter(_concluded(_corrected(tested), margin))
    return [next(corrected) if e.kind in TESTED else _plain(e) for e in entrants]


def _plain(entrant: Entrant) -> Row:
    likelihood = entrant.log_likelihood
    return Row(
        entrant.name,
        entrant.kind,
        accuracy_interval(entrant.values),
        None if likelihood is None else mean_interval(likelihood),
    )


def _tested(entrant: Entrant, entrants: list[Entrant]) -> Row:
    members = of_kind(entrants, "seed")
    exchanges = {member.name: exchange(entrant.values, member.values) for member in members}
    likelihood = entrant.log_likelihood
    return replace(
        _plain(entrant),
        accuracy_gain=compare_with_mean_seed(entrant.values, values_of(members)),
        likelihood_gain=None
        if likelihood is None
        else compare_with_mean_seed(likelihood, likelihoods_of(members), bounded=False),
        against_members=exchanges,
        every_member_p=max(e.p_value if e.gained > e.lost else 1.0 for e in exchanges.values()),
    )


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """With p-values corrected: accuracy, likelihood, pairs and every member are four families."""
    accuracy = iter(holm([row.accuracy_gain.p_value for row in rows if row.accuracy_gain]))
    likelihood = iter(holm([row.likelihood_gain.p_value for row in rows if row.likelihood_gain]))
    pairs = iter(holm([e.p_value for row in rows for e in row.against_members.values()]))
    every = iter(holm([row.every_member_p or 0.0 for row in rows]))
    return [
        replace(
            row,
            accuracy_p=next(accuracy),
            likelihood_p=next(likelihood) if row.likelihood_gain else None,
            against_members={
                name: replace(pair, corrected_p=next(pairs))
                for name, pair in row.against_members.items()
            },
            every_member_p=next(every),
        )
        for row in rows
    ]


def _concluded(rows: Sequence[Row], margin: float | None) -> list[Row]:
    return [
        replace(
            row,
            finding=_finding(row.accuracy_gain, row.accuracy_p, margin),
            likelihood_finding=_finding(row.likelihood_gain, row.likelihood_p, None),
        )
        for row in rows
    ]


def _finding(gain: Comparison | None, p: float | None, margin: float | None) -> Finding | None:
    if gain is None or p is None:
        return None
    return conclude(gain.difference, p, margin=margin, seeds=gain.seeds)

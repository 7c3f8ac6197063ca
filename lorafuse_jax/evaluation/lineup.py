"""Who is compared on a task: models, and what is made of them without a model."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.vote import majority
from lorafuse_jax.types import UserError

RowKind = Literal[
    "base", "seed", "mean seed", "best seed", "fused", "control", "ensemble", "vote", "union"
]
TESTED: tuple[RowKind, ...] = ("fused", "control", "ensemble", "vote")
"""Compared with the mean seed. Those of one task and metric are one family of tests."""


@dataclass(frozen=True)
class Entrant:
    """One line of the table, before any statistics.

    Attributes:
        name: of the model, or what it is.
        kind: decides over colour, place and whether it is tested.
        values: of one metric, in [0, 1].
        log_likelihood: of the reference, nats a token; None where there is no such thing.
    """

    name: str
    kind: RowKind
    values: Float[np.ndarray, " E"]
    log_likelihood: Float[np.ndarray, " E"] | None


def lineup(scores: Scores, best_seed: str, metric: str | None = None) -> list[Entrant]:
    """Base, seeds, their mean, the best by validation, fused ones, controls, ensemble, vote, union.

    The vote is there if anything was answered that can be voted on, by three seeds or more: of two
    that differ, neither has a majority. The union is right where any
    seed is: a bound on what choosing among seeds could reach.

    Args:
        scores: with at least one seed and two examples.
        best_seed: name of the seed that is best on validation.
        metric: whose values; None is the one that models are compared by.

    Raises:
        UserError: there is no seed, or not that one, or only one example.
    """
    _check(scores, best_seed)
    examples = range(len(scores.ids))
    values = scores.values[metric or scores.metric]
    likelihood, seeds = scores.log_likelihood, scores.rows_of("seed")

    def entrant(number: int, kind: RowKind, name: str = "") -> Entrant:
        likely = None if likelihood is None else likelihood[number]
        return Entrant(name or scores.models[number], kind, values[number], likely)

    mean = None if likelihood is None else likelihood[seeds].mean(axis=0)
    entrants = [entrant(number, "base") for number in scores.rows_of("base")]
    entrants += [entrant(number, "seed") for number in seeds]
    entrants.append(Entrant("mean of seeds", "mean seed", values[seeds].mean(axis=0), mean))
    best = scores.models.index(best_seed)
    entrants.append(entrant(best, "best seed", f"best on validation: {best_seed}"))
    for kind in ("fused", "control", "ensemble"):
        entrants += [entrant(number, kind) for number in scores.rows_of(kind)]
    if len(seeds) > 2 and any(scores.answers[n][e] is not None for n in seeds for e in examples):
        winners = majority([scores.answers[seed] for seed in seeds])
        voted = values[seeds][winners, np.arange(len(scores.ids))]
        entrants.append(Entrant("majority vote", "vote", voted, None))
    union = values[seeds].max(axis=0)
    return [*entrants, Entrant("any seed right (a bound)", "union", union, None)]


def of_kind(entrants: list[Entrant], *kinds: RowKind) -> list[Entrant]:
    """Those of some kinds, in order."""
    return [entrant for entrant in entrants if entrant.kind in kinds]


def values_of(entrants: list[Entrant]) -> Float[np.ndarray, "models E"]:
    """Their values as a matrix."""
    return np.stack([entrant.values for entrant in entrants])


def likelihoods_of(entrants: list[Entrant]) -> Float[np.ndarray, "models E"]:
    """Their log-likelihoods as a matrix; all must have one."""
    return np.stack([e.log_likelihood for e in entrants if e.log_likelihood is not None])


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

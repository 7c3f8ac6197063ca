"""What models have right beyond one another: agreement, consistency, union and exchanges."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from lorafuse_jax.evaluation.lineup import TESTED, Entrant, of_kind
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.vote import coded


@dataclass(frozen=True)
class Moved:
    """Where a tested model differs from all its seeds together; ids of examples.

    Attributes:
        name: of the model.
        only_it: right, and no seed is: what choosing among the seeds cannot give.
        lost_from_some: wrong, and at least one seed is right, but not all.
        lost_from_all: wrong, and every seed is right.
    """

    name: str
    only_it: list[str]
    lost_from_some: list[str]
    lost_from_all: list[str]


@dataclass(frozen=True)
class Complementarity:
    """How models overlap. Right is a value of 1; a share below is wrong.

    Attributes:
        models: base, seeds, fused.
        agree: [models][models], share of examples on which both are right or both wrong.
        kappa: Cohen's (1960) of the same: 0 is the agreement that two models with these
            accuracies have by chance, 1 is full. None where a model is right, or wrong, throughout.
        same_answer: share of examples with the same answer; no answer is the same as none. None
            where answers are not texts that can be compared.
        seeds_agree: ``agree``, mean over pairs of seeds; 1 for a single seed.
        seeds_kappa: likewise; None where there is no pair that has one.
        consistency: share of examples to which two seeds give the same answer, mean over pairs;
            None as for ``same_answer``.
        correct_consistency: share to which they give the same answer, and that is right.
        solved_by: number of examples that 0, 1, ... S seeds have right.
        union: share of examples that at least one seed has right.
        intersection: share that all seeds have right.
        union_by_chance: what the union would be, had seeds of these accuracies nothing in common.
        intersection_by_chance: likewise; the distance to ``intersection`` is what seeds share.
        moved: of each tested model.
    """

    models: list[str]
    agree: list[list[float]]
    kappa: list[list[float | None]]
    same_answer: list[list[float]] | None
    seeds_agree: float
    seeds_kappa: float | None
    consistency: float | None
    correct_consistency: float | None
    solved_by: list[int]
    union: float
    intersection: float
    union_by_chance: float
    intersection_by_chance: float
    moved: list[Moved]


def complementarity(scores: Scores, entrants: list[Entrant]) -> Complementarity:
    """Of a task's matrix.

    Consistency is the micro-level measure of arXiv 2503.07329 (stability of single predictions over
    random seeds) as Wang et al. (NeurIPS 2020, arXiv 2011.06796) define it for two trained models,
    with their correct-consistency; over more than two it is the mean over pairs.

    Args:
        scores: the matrix.
        entrants: its line-up.
    """
    right, seeds = scores.primary == 1, scores.rows_of("seed")
    comparable = any(answer is not None for line in scores.answers for answer in line)
    same = _equal_answers(coded(scores.answers)) if comparable else None
    agree, kappa = agreement_matrix(right), kappa_matrix(right)
    of_seeds, pairs = right[seeds], list(combinations(seeds, 2))
    kappas = [kappa[i][j] for i, j in pairs]
    known = [value for value in kappas if value is not None]
    both = None if same is None else same[seeds][:, seeds] & of_seeds[:, None] & of_seeds[None]
    shares = of_seeds.mean(axis=1)
    return Complementarity(
        scores.models,
        agree.tolist(),
        kappa,
        None if same is None else same.mean(axis=2).tolist(),
        float(np.mean([agree[i, j] for i, j in pairs])) if pairs else 1.0,
        float(np.mean(known)) if known else None,
        None if same is None else mean_over_pairs(same[seeds][:, seeds]),
        None if both is None else mean_over_pairs(both),
        np.bincount(of_seeds.sum(axis=0), minlength=len(seeds) + 1).tolist(),
        float(of_seeds.any(axis=0).mean()),
        float(of_seeds.all(axis=0).mean()),
        float(1 - np.prod(1 - shares)),
        float(np.prod(shares)),
        [_moved(one, of_seeds, scores.ids) for one in of_kind(entrants, *TESTED)],
    )


def agreement_matrix(right: Bool[np.ndarray, "M E"]) -> Float[np.ndarray, "M M"]:
    """Share of examples on which two models are both right or both wrong."""
    return (right[:, None] == right[None]).mean(axis=2)


def kappa_matrix(right: Bool[np.ndarray, "M E"]) -> list[list[float | None]]:
    """Cohen's kappa of being right; None where agreement by chance is full."""
    share = right.mean(axis=1)
    chance = np.outer(share, share) + np.outer(1 - share, 1 - share)
    agree = agreement_matrix(right)
    return [
        [None if c >= 1 else float((a - c) / (1 - c)) for a, c in zip(*lines, strict=True)]
        for lines in zip(agree, chance, strict=True)
    ]


def mean_over_pairs(table: Bool[np.ndarray, "S S E"]) -> float:
    """Mean over examples and pairs of different seeds; over the one seed where there is no pair."""
    pairs = list(combinations(range(len(table)), 2)) or [(0, 0)]
    return float(np.mean([table[i, j].mean() for i, j in pairs]))


def _equal_answers(codes: Int[np.ndarray, "M E"]) -> Bool[np.ndarray, "M M E"]:
    return (codes[:, None] == codes[None]) & (codes >= 0)[None]


def _moved(one: Entrant, seeds: Bool[np.ndarray, "S E"], ids: list[str]) -> Moved:
    right, some, every = one.values == 1, seeds.any(axis=0), seeds.all(axis=0)

    def named(chosen: Bool[np.ndarray, " E"]) -> list[str]:
        return [ids[number] for number in np.flatnonzero(chosen)]

    return Moved(
        one.name, named(right & ~some), named(~right & some & ~every), named(~right & every)
    )

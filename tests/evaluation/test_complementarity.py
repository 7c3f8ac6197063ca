import numpy as np
import pytest

from lorafuse_jax.evaluation.complementarity import (
    complementarity,
    kappa_matrix,
)
from lorafuse_jax.evaluation.lineup import lineup
from lorafuse_jax.evaluation.scores import Scores
from tests.evaluation.given import scores


def found_of(given, best="seed-2"):
    return complementarity(given, lineup(given, best))


def test_overlap_by_hand():
    # Of ten: seed-1 has 0-3 right, seed-2 2-5, the fused one all, the base none.
    found = found_of(scores())
    assert found.models == ["base", "seed-1", "seed-2", "mean"]
    assert found.agree[1] == pytest.approx([0.6, 1, 0.6, 0.4])
    assert found.kappa[1][2] == pytest.approx((0.6 - 0.52) / 0.48)
    assert found.kappa[0][3] == 0 and found.kappa[0][0] is None
    assert found.seeds_agree == 0.6 and found.seeds_kappa == found.kappa[1][2]
    assert found.solved_by == [4, 4, 2]
    assert (found.union, found.intersection) == (0.6, 0.2)
    assert found.union_by_chance == pytest.approx(1 - 0.6**2)
    assert found.intersection_by_chance == pytest.approx(0.4**2)
    (fused,) = found.moved
    assert (fused.name, fused.only_it) == ("mean", ["e6", "e7", "e8", "e9"])
    assert fused.lost_from_some == fused.lost_from_all == []


def test_kappa_is_statsmodels():
    # statsmodels 0.15.0: cohens_kappa([[20, 5], [10, 15]]) and ([[3, 9], [11, 2]])
    for table, expected in (((20, 5, 10, 15), 0.4), ((3, 9, 11, 2), -0.5923566878980893)):
        first = np.repeat([True, True, False, False], table)
        second = np.repeat([True, False, True, False], table)
        assert kappa_matrix(np.stack([first, second]))[0][1] == pytest.approx(expected)


def test_consistency_counts_pairs_of_seeds_with_the_same_answer():
    answers = [["1", "2", None, "4"], ["1", "3", None, "4"], ["1", "2", "5", "6"]]
    # All three agree; one pair of three; no answer is like no other; one pair.
    right = np.array([[1, 0, 0, 1], [1, 1, 0, 1], [1, 0, 0, 0]], float)
    given = Scores(
        task="t",
        models=["a", "b", "c"],
        kinds=["seed"] * 3,
        ids=list("wxyz"),
        groups=[""] * 4,
        values={"correct": right},
        log_likelihood=None,
        answers=answers,
        references=["1", "3", "7", "4"],
        faults=[[None] * 4] * 3,
    )
    found = found_of(given, "a")
    assert found.consistency == pytest.approx((1 + 1 / 3 + 0 + 1 / 3) / 4)
    assert found.correct_consistency == pytest.approx((1 + 0 + 0 + 1 / 3) / 4)
    assert found.same_answer[0] == pytest.approx([0.75, 0.5, 0.5])


def test_answers_that_cannot_be_compared_have_no_consistency():
    given = scores()
    object.__setattr__(given, "answers", [[None] * 10 for _ in given.models])
    found = found_of(given)
    assert found.same_answer is found.consistency is found.correct_consistency is None


def test_one_seed_agrees_with_itself():
    found = found_of(scores(("seed-1", "mean")), "seed-1")
    assert found.seeds_agree == found.consistency == 1.0
    assert found.seeds_kappa is None and found.union == found.intersection

from itertools import combinations

import numpy as np
import pytest

from lorafuse_jax.evaluation.seed_count import by_number_of_seeds
from lorafuse_jax.evaluation.vote import majority
from lorafuse_jax.types import UserError

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    answers = rng.choice(["1", "2", "3"], (4, 60), p=[0.6, 0.2, 0.2]).tolist()
    return np.array([[float(a == "1") for a in line] for line in answers]), answers


def test_every_size_is_the_mean_over_all_its_subsets(given):
    values, answers = given
    for line in by_number_of_seeds(NAMES, values, answers):
        subsets = [list(s) for s in combinations(range(4), line.seeds)]
        assert line.subsets == len(subsets)
        assert line.mean.value == pytest.approx(values.mean())
        assert line.union.value == pytest.approx(np.mean([values[s].max(0) for s in subsets]))
        expected = np.mean([values[s].min(0) for s in subsets])
        assert line.intersection.value == pytest.approx(expected)
        if line.seeds < 3:
            assert line.vote is None  # of two that differ, neither has a majority
            continue
        winners = [majority([answers[n] for n in s]) for s in subsets]
        voted = [values[s][w, range(60)] for s, w in zip(subsets, winners, strict=True)]
        assert line.vote.value == pytest.approx(np.mean(voted))


def test_fused_subsets_are_compared_with_their_own_seeds(given):
    values, _ = given
    fused = {
        frozenset("ab"): np.clip(values[0] + 0.0, 0, 1),
        frozenset("cd"): np.ones(60),
        frozenset("abc"): values[2],
    }
    lines = by_number_of_seeds(NAMES, values, fused={"mean": fused})
    assert [set(line.fused) for line in lines] == [set(), {"mean"}, {"mean"}, set()]
    two = lines[1].fused["mean"]
    assert two.subsets == 2
    assert two.accuracy.value == pytest.approx((values[0].mean() + 1) / 2)
    gains = values[0] - values[:2].mean(0), 1 - values[2:].mean(0)
    assert two.gain.value == pytest.approx(np.mean(gains))
    assert (two.low, two.high) == (pytest.approx(values[0].mean()), 1.0)
    # A paired interval: that of the two accuracies apart would be wider.
    spread = np.mean(gains, axis=0).std(ddof=1) / 60**0.5
    assert (two.gain.high - two.gain.low) / 2 == pytest.approx(2.0 * spread, rel=0.02)
    assert lines[0].vote is None


def test_unknown_seeds_are_refused(given):
    values, _ = given
    with pytest.raises(UserError, match="mean was fused of z, but the seeds are a, b, c, d"):
        by_number_of_seeds(NAMES, values, fused={"mean": {frozenset("az"): values[0]}})


def test_many_seeds_have_all_but_the_votes_of_their_subsets():
    rng = np.random.default_rng(1)
    names = [str(n) for n in range(20)]
    values = (rng.random((20, 30)) < 0.4).astype(float)
    lines = by_number_of_seeds(names, values, [["1"] * 30] * 20)
    assert [line.vote for line in lines] == [None] * 20
    assert lines[-1].union.value == values.max(0).mean()
    # As in the table of all models: no bootstrap of what is right throughout.
    assert lines[-1].union.low < 1 or values.max(0).mean() < 1

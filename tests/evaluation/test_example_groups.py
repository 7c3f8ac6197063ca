import numpy as np
import pytest
from scipy import stats

from lorafuse_jax.evaluation.example_groups import by_example_group
from lorafuse_jax.evaluation.lineup import lineup
from tests.evaluation.given import matrix


def entrants_of(right):
    models = {"seed-1": "seed", "seed-2": "seed", "mean": "fused"}
    given = matrix(models, models.values(), right, list(map(str, range(right.shape[1]))))
    return lineup(given, "seed-1")


def test_macro_average_counts_every_group_the_same():
    right = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1]], float)
    found = by_example_group(["a", "a", "a", "b", "b"], entrants_of(right))
    assert found.sizes == {"a": 3, "b": 2}
    fused = next(line for line in found.lines if line.kind == "fused")
    assert fused.accuracy == pytest.approx({"a": 1, "b": 0.5})
    assert fused.macro.value == pytest.approx(0.75)
    # Mean seed: (2 + 1) / 6 and (0 + 1) / 4.
    assert fused.gain.value == pytest.approx((0.5 + 0.25) / 2)
    students = stats.ttest_1samp([0.5, 0.25], 0).confidence_interval()
    assert students.low < -1 and students.high > 1  # which gains cannot be
    assert (fused.gain.low, fused.gain.high) == (-1, 1)
    assert (fused.macro.low, fused.macro.high) == (0, 1)
    assert all((line.gain is None) == (line.kind not in ("fused", "vote")) for line in found.lines)


def test_spread_of_groups_as_hard_as_each_other_is_the_noise_and_of_others_is_more():
    rng = np.random.default_rng(0)
    groups = [f"t{n}" for n in range(200) for _ in range(20)]
    alike = (rng.random((3, 4000)) < 0.6).astype(float)
    hard = (rng.random((3, 4000)) < np.repeat(rng.uniform(0, 1, 200), 20)).astype(float)
    for right, ratio in ((alike, 1.0), (hard, None)):
        for line in by_example_group(groups, entrants_of(right)).lines[:2]:
            if ratio:
                assert line.spread / line.noise == pytest.approx(ratio, rel=0.15)
            else:
                assert line.spread > 2 * line.noise


def test_examples_without_groups_have_no_such_table():
    assert by_example_group([""] * 4, entrants_of(np.ones((3, 4)))) is None


def test_intervals_over_many_groups_are_students_and_noise_is_of_their_sizes():
    rng = np.random.default_rng(4)
    sizes = rng.integers(2, 9, 30)
    groups = np.repeat([f"t{n}" for n in range(30)], sizes).tolist()
    right = (rng.random((3, sizes.sum())) < 0.6).astype(float)
    fused = next(x for x in by_example_group(groups, entrants_of(right)).lines if x.kind == "fused")
    index = np.repeat(np.arange(30), sizes)
    shares = np.array([right[:, index == n].mean(axis=1) for n in range(30)])
    students = stats.ttest_1samp(shares[:, 2] - shares[:, :2].mean(1), 0).confidence_interval()
    assert (fused.gain.low, fused.gain.high) == pytest.approx((students.low, students.high))
    noise = np.sqrt(np.mean(right[2].var(ddof=1) / sizes))
    assert (
        fused.noise == pytest.approx(noise) and noise > 1.02 * right[2].std() / sizes.mean() ** 0.5
    )

from dataclasses import replace

import numpy as np
import pytest

from lorafuse_jax.evaluation.summary import summarize
from lorafuse_jax.report.table import power
from lorafuse_jax.report.verdict import headline
from lorafuse_jax.types import UserError
from tests.evaluation.given import matrix, scores


def summary_of(given, best="seed-2"):
    return summarize(given, best)


def test_summary_rows_by_hand():
    summary = summary_of(scores())
    values = [(r.name, round(r.accuracy.value, 12)) for r in summary.rows]
    assert values == [
        ("base", 0.0),
        ("seed-1", 0.4),
        ("seed-2", 0.4),
        ("mean of seeds", 0.4),
        ("best on validation: seed-2", 0.4),
        ("mean", 1.0),
        ("any seed right (a bound)", 0.6),
    ]
    fused = summary.row("fused")
    assert fused.accuracy_gain.difference.value == pytest.approx(0.6)
    assert fused.likelihood_gain.difference.value == pytest.approx((6 - 0) / 4)
    against = fused.against_members["seed-2"]
    assert (against.gained, against.lost) == (6, 0)
    assert summary.twins == []


def test_p_values_are_corrected_over_the_fused_rows_and_the_vote():
    rng = np.random.default_rng(8)
    models = {f"seed-{n}": "seed" for n in (1, 2, 3)} | dict.fromkeys("abc", "fused")
    right = (rng.random((6, 40)) < 0.6).astype(float)
    likelihood = rng.normal(-3, 1, (6, 40))
    noisy = matrix(models, models.values(), right, list(map(str, range(40))), likelihood)
    tested = [r for r in summary_of(noisy).rows if r.accuracy_gain]
    smallest = min(tested, key=lambda r: r.accuracy_gain.p_value)
    assert len(tested) == 4
    expected = min(1.0, 4 * smallest.accuracy_gain.p_value)
    assert smallest.accuracy_p == pytest.approx(expected)
    likely = min(tested[:3], key=lambda r: r.likelihood_gain.p_value)
    assert likely.likelihood_p == pytest.approx(min(1.0, 3 * likely.likelihood_gain.p_value))


def test_models_that_always_answer_alike_are_called_twins():
    models = ("seed-1", "seed-2", "mean", "twin")
    assert summary_of(scores(models)).twins == [("mean", "twin")]


def test_summary_of_one_seed_is_possible():
    summary = summary_of(scores(("seed-1", "mean")), "seed-1")
    assert summary.complementarity.seeds_agree == 1.0
    assert summary.row("mean seed").accuracy.value == summary.row("seed").accuracy.value


def test_summary_is_the_same_twice():
    assert summary_of(scores()) == summary_of(scores())


@pytest.mark.parametrize("best", ["seed-3", "mean", "base"])
def test_best_seed_that_is_no_seed_is_refused(best):
    with pytest.raises(UserError, match=rf"no answers of {best}, only of seed-1, seed-2"):
        summary_of(scores(), best)


def test_one_example_is_too_few():
    with pytest.raises(UserError, match="one example is too few"):
        summary_of(scores(examples=range(1)))


def test_every_member_is_compared_one_by_one():
    fused = summary_of(scores()).row("fused")
    assert set(fused.against_members) == {"seed-1", "seed-2"}
    p = 2 * 0.5**6
    assert fused.against_members["seed-1"].p_value == pytest.approx(p)
    # Two members and one tested row make two pairs.
    assert fused.against_members["seed-1"].corrected_p == pytest.approx(2 * p)
    assert fused.every_member_p == pytest.approx(p)
    # Right where one seed never is, wrong where the other always is: not better than both.
    models = {"seed-1": "seed", "seed-2": "seed", "mean": "fused"}
    right = np.repeat([[0.0], [1.0], [0.0]], 40, axis=1)
    right[2, :20] = 1
    row = summary_of(matrix(models, models.values(), right, list(map(str, range(40))))).row("fused")
    assert all(pair.p_value < 1e-5 for pair in row.against_members.values())
    assert row.every_member_p == 1.0


def test_findings_need_more_than_one_seed():
    models, right = {"seed-1": "seed", "mean": "fused"}, np.zeros((2, 40))
    right[1, :20] = 1
    one = matrix(models, models.values(), right, list(map(str, range(40))))
    assert summary_of(one, "seed-1").row("fused").finding == "better with these seeds"


def test_every_metric_has_its_table_and_its_family():
    given = scores()
    strict = given.primary.copy()
    strict[3, :8] = 0
    summary = summary_of(replace(given, values={"flexible": given.primary, "strict": strict}))
    assert summary.metric == "flexible" and list(summary.metrics) == ["flexible", "strict"]
    for metric, fused in (("flexible", 1.0), ("strict", 0.2)):
        lines = {line.kind: line for line in summary.metrics[metric]}
        assert lines["fused"].value.value == pytest.approx(fused)
        assert lines["fused"].gain.difference.value == pytest.approx(fused - 0.4)
        assert lines["mean seed"].gain is lines["mean seed"].p_value is None
    first = {line.name: line.p_value for line in summary.metrics["flexible"]}
    assert first["mean"] == summary.row("fused").accuracy_p


def test_results_by_group_are_there_where_examples_have_groups():
    assert summary_of(scores()).example_groups is None
    found = summary_of(replace(scores(), groups=["x"] * 4 + ["y"] * 6)).example_groups
    assert found.sizes == {"x": 4, "y": 6}
    seed = next(line for line in found.lines if line.name == "seed-2")
    assert seed.accuracy == pytest.approx({"x": 0.5, "y": 2 / 6})


def test_real_numbers_are_called_by_their_name_and_have_no_floor_of_right_and_wrong():
    rng = np.random.default_rng(0)
    models = {f"seed-{n}": "seed" for n in (1, 2, 3)} | {"mean": "fused"}
    hardness = rng.uniform(0.05, 0.3, 62)
    values = np.stack([hardness + rng.normal(0, 1e-3, 62) for _ in models])
    values[3] += 0.009
    summary = summary_of(matrix(models, models.values(), values, list(map(str, range(62)))))
    difference = summary.row("fused").accuracy_gain.difference
    assert difference.excludes_zero() and difference.high - difference.low < 0.005
    assert (summary.measure, summary_of(scores()).measure) == ("correct", "accuracy")
    assert summary.detectable < 0.001
    assert headline(summary).startswith("In correct, mean is better than the mean seed; majority")
    # How small a difference in such a measure is none, nobody has said.
    assert {row.finding for row in summary.rows} == {None, "better", "open"}
    assert "difference in correct of 0." in power(summary)

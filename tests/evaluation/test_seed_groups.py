from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lorafuse_jax.evaluation import seed_groups
from lorafuse_jax.evaluation.seed_groups import summarize_groups
from lorafuse_jax.types import UserError
from tests.evaluation.given import matrix

KINDS = ["base", "seed", "seed", "fused", "fused"]


def group(number, gain=0.1, examples=80, fused=("mean", "ties")):
    rng = np.random.default_rng(number)
    models = ["base", f"seed-{number}1", f"seed-{number}2", *fused]
    share = np.array([0.1, 0.5, 0.5, 0.5 + gain, 0.5])[:, None]
    right = (rng.random((5, examples)) < share).astype(float)
    likelihood = rng.normal(-1, 0.3, (5, examples))
    return matrix(models, KINDS, right, list(map(str, range(examples))), likelihood)


def summary_of(*groups):
    best = [one.models[1] for one in groups]
    names = [f"run-{chr(65 + n)}" for n in range(len(groups))]
    return summarize_groups(groups, best, names)


@pytest.fixture(scope="module")
def groups():
    return [group(n, gain=0.3) for n in range(4)]


def test_gains_by_group_and_their_mean_by_hand(groups):
    summary = summary_of(*groups)
    assert summary.groups == ["run-A", "run-B", "run-C", "run-D"]
    kinds = [row.kind for row in summary.rows]
    assert kinds == ["base", "mean seed", "best seed", "fused", "fused", "union"]
    row = next(row for row in summary.rows if row.kind == "fused")
    gains = [g.primary[3].mean() - g.primary[1:3].mean() for g in groups]
    assert row.gain.by_group == pytest.approx(gains)
    assert row.gain.difference.value == pytest.approx(np.mean(gains))
    assert row.by_group == pytest.approx([g.primary[3].mean() for g in groups])
    best = [g.primary[3].mean() - g.primary[1].mean() for g in groups]
    assert row.gain_over_best.value == pytest.approx(np.mean(best))
    likely = [g.log_likelihood[3].mean() - g.log_likelihood[1:3].mean() for g in groups]
    assert row.likelihood_gain.by_group == pytest.approx(likely)


def test_a_large_gain_is_found_over_groups_and_none_is_not(groups):
    large, none, *_ = [row for row in summary_of(*groups).rows if row.gain]
    assert (large.name, large.gain.finding) == ("mean", "better")
    assert none.gain.finding == "open"
    assert large.gain.corrected_p == pytest.approx(2 * large.gain.p_value)
    student = stats.ttest_1samp(large.gain.by_group, 0).pvalue
    assert large.gain.student_p == pytest.approx(student)
    assert large.gain.sign_flip_p == pytest.approx(summary_of(*groups).smallest_p) == 0.125


def test_models_that_are_not_everywhere_are_named_and_not_compared(groups):
    other = group(7, fused=("mean", "svd"))
    summary = summary_of(groups[0], other)
    assert summary.not_everywhere == {"ties": ["run-B"], "svd": ["run-A"]}
    assert [row.name for row in summary.rows if row.kind == "fused"] == ["mean"]


def test_margin_decides_what_is_called_equivalent(monkeypatch):
    # Groups that are copies do not differ, and no example does: only so few are left.
    same = group(1)
    values = {"correct": np.repeat(same.primary[1:2], 5, axis=0)}
    copies = [
        replace(same, models=[m.replace("-1", f"-{n}") for m in same.models], values=values)
        for n in range(1, 4)
    ]
    for margin, finding in ((0.06, "equivalent"), (0.04, "open")):
        monkeypatch.setattr(seed_groups, "MARGIN", margin)
        assert {r.gain.finding for r in summary_of(*copies).rows if r.gain} == {finding}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "other"}, "run-B and run-A differ in task"),
        ({"ids": [f"x{n}" for n in range(80)]}, "differ in examples"),
        ({"references": ["9"] * 80}, "differ in references"),
        ({"values": {"strict": np.ones((5, 80))}}, "differ in metrics"),
        ({"log_likelihood": None}, "differ in log-likelihoods"),
        ({"models": ["base", "seed-01", "seed-12", "mean", "ties"]}, "seed-01 is in run-A and in"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(groups, changes, words):
    with pytest.raises(UserError, match=words):
        summary_of(groups[0], replace(groups[1], **changes))


def test_one_run_is_one_group(groups):
    with pytest.raises(UserError, match="run-A: one run is one group of seeds"):
        summary_of(groups[0])

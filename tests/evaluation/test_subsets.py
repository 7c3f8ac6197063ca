"""Accuracy by number of seeds, from answers that say what it must be; and what it leaves alone."""

import numpy as np
import pytest

from lorafuse_jax.evaluation.subsets import accuracy_by_size, operators_of
from lorafuse_jax.evaluation.summary import summarize
from lorafuse_jax.report.subsets import subset_markdown
from tests.evaluation.given import matrix

MODELS = {
    "base": "base",
    "seed-1": "seed",
    "seed-2": "seed",
    "seed-30": "seed",
    "all": "fused",
    "core_space:ties(1+2)": "subset",
    "mean(1+2)": "subset",
    "mean(1+30)": "subset",
    "mean(2+30)": "subset",
}
EXAMPLES = 24


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(3)
    right = (rng.random((len(MODELS), EXAMPLES)) < 0.6).astype(float)
    likelihood = rng.normal(-2, 1, right.shape)
    references = list(map(str, range(EXAMPLES)))
    return matrix(MODELS, MODELS.values(), right, references, likelihood)


def without_subsets(scores):
    kept = len(MODELS) - 4
    models = list(MODELS)[:kept]
    return matrix(
        models,
        [MODELS[model] for model in models],
        scores.primary[:kept],
        scores.references,
        scores.log_likelihood[:kept],
    )


def test_sizes_are_of_the_models_that_their_names_say(scores):
    assert operators_of(scores) == {"mean", "core_space:ties"}
    lines = accuracy_by_size(scores, {"mean": "all", "other": "base"})
    assert [line.seeds for line in lines] == [1, 2, 3]
    assert [set(line.fused) for line in lines] == [set(), {"core_space:ties", "mean"}, {"mean"}]
    pairs, right = lines[1].fused["mean"], scores.primary
    each = [row.mean() for row in right[6:]]
    assert (pairs.low, pairs.high) == (pytest.approx(min(each)), pytest.approx(max(each)))
    assert pairs.accuracy.value == pytest.approx(np.mean(each))
    assert pairs.gain.value == pytest.approx(np.mean(right[6:]) - np.mean(right[1:4]))
    assert lines[2].fused["mean"].accuracy.value == pytest.approx(right[4].mean())
    assert lines[1].fused["core_space:ties"].subsets == 1
    gain = right[5].mean() - right[1:3].mean()
    assert lines[1].fused["core_space:ties"].gain.value == pytest.approx(gain)


def test_rows_that_are_tested_do_not_notice_the_subsets(scores):
    assert summarize(scores, "seed-2") == summarize(without_subsets(scores), "seed-2")
    assert not any(line.fused for line in accuracy_by_size(without_subsets(scores), {}))


def test_tables_have_a_line_a_size(scores):
    lines = accuracy_by_size(scores, {})
    text = subset_markdown(lines)
    assert f"| mean | 2 | 3 | {100 * lines[1].fused['mean'].accuracy.value:.1f} [" in text
    # The mean seed; two of union and intersection; one vote; the subsets of two operators.
    assert text.count("\n| ") == 1 + 1 + 2 * 2 + 1 + 2

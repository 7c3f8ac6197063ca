"""Accuracy by number of seeds, from answers that say what it must be; and what it leaves alone."""

import numpy as np
import pytest

from lorafuse_jax.evaluation.subsets import accuracy_by_size, operators_of
from lorafuse_jax.evaluation.summary import summarize
from lorafuse_jax.report.subsets import subset_html, subset_markdown
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
    assert [(one.operator, one.size, one.subsets) for one in lines] == [
        ("", 1, 3),
        ("core_space:ties", 2, 1),
        ("mean", 2, 3),
        ("mean", 3, 1),
    ]
    pairs, right = lines[2], scores.primary
    each = [row.mean() for row in right[6:]]
    assert (pairs.low, pairs.high) == (pytest.approx(min(each)), pytest.approx(max(each)))
    assert pairs.mean == pytest.approx(np.mean(each))
    gains = [np.mean(right[6:, e]) - np.mean(right[1:4, e]) for e in range(EXAMPLES)]
    assert pairs.gain == pytest.approx(np.mean(gains))
    assert pairs.error == pytest.approx(np.std(gains, ddof=1) / np.sqrt(EXAMPLES))
    assert pairs.log_likelihood == pytest.approx(scores.log_likelihood[6:].mean())
    assert lines[3].mean == pytest.approx(right[4].mean())
    assert lines[0].gain == 0


def test_rows_that_are_tested_do_not_notice_the_subsets(scores):
    assert summarize(scores, "seed-2") == summarize(without_subsets(scores), "seed-2")
    assert accuracy_by_size(without_subsets(scores), {}) == []


def test_tables_have_a_line_a_size(scores):
    lines = accuracy_by_size(scores, {})
    text = subset_markdown(lines)
    assert f"| mean | 2 | 3 | {100 * lines[2].mean:.1f} |" in text
    assert text.count("\n| ") == 1 + 3
    assert subset_html(lines).count("<tr>") == 1 + 3

from dataclasses import replace

import pytest

from lorafuse_jax.evaluation.statistics import Interval
from lorafuse_jax.evaluation.summary import summarize
from lorafuse_jax.report.figure import results_figure
from tests.evaluation.given import scores


@pytest.fixture(scope="module")
def summary():
    return summarize(scores(), "seed-2")


def dots(axes):
    """Place -> x of every dot."""
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    return {int(line.get_ydata()[0]): float(line.get_xdata()[0]) for line in lines}


def test_results_figure_has_a_dot_at_every_value_and_the_line_at_the_mean_seed(summary):
    left, right = results_figure(summary).axes
    backwards = summary.rows[::-1]
    assert dots(left) == pytest.approx(
        {place: 100 * row.accuracy.value for place, row in enumerate(backwards)}
    )
    assert set(dots(right)) == {n for n, row in enumerate(backwards) if row.kind not in OFF}
    mean = [line for line in left.lines if line.get_linestyle() == ":"]
    assert mean[0].get_xdata()[0] == pytest.approx(40)
    assert [text.get_text() for text in left.get_yticklabels()] == [r.name for r in backwards]


OFF = ("base", "vote", "union")
"""No log-likelihood, or off the axis."""


def test_results_figure_writes_out_a_base_that_is_off_the_axis(summary):
    _, right = results_figure(summary).axes
    base = summary.row("base").log_likelihood
    assert f"off the axis: {base.value:.3f}" in [text.get_text() for text in right.texts]


def test_results_figure_of_models_without_spread_is_drawn(summary):
    same = Interval(0.5, 0.5, 0.5)
    flat = [replace(row, accuracy=same, log_likelihood=same) for row in summary.rows]
    left, _ = results_figure(replace(summary, rows=flat)).axes
    assert left.get_xlim()[0] < 50 < left.get_xlim()[1]

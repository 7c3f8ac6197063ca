"""One thing that is not as it should be."""

from typing import Literal, NamedTuple

Level = Literal["broken", "limited", "slow"]
LEVELS: tuple[Level, ...] = ("broken", "limited", "slow")
"""Worst first: a command fails; a part of the tool refuses; everything runs, but slower."""


class Finding(NamedTuple):
    """What is wrong, why that matters, and the next step.

    Attributes:
        level: how bad.
        what: what was found, in one line.
        why: what it does to a run.
        do: a command to copy, or a sentence.
    """

    level: Level
    what: str
    why: str
    do: str

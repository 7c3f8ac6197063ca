"""What a checker is."""

from collections.abc import Callable
from typing import NamedTuple


class Checker(NamedTuple):
    """One kind of answer.

    Attributes:
        name: on the command line.
        about: one line.
        find: the answer in a text that a model generated, written so that equal answers are equal
            texts; None if there is none.
        matches: ``(found, gold)`` -> whether the one is the other.
        problem: what is wrong with a gold answer, so that nothing could match it; None if nothing.
    """

    name: str
    about: str
    find: Callable[[str], str | None]
    matches: Callable[[str | None, str], bool]
    problem: Callable[[str], str | None]

"""How a text is compared with the right answer, by name: one kind of answer a file.

To add one: a file with a ``Checker``, and its name in ``CHECKERS``.
"""

from lorafuse_jax.evaluation.checkers import (
    contains,
    doctests,
    exact,
    formula,
    letter,
    number,
    pattern,
)
from lorafuse_jax.evaluation.checkers.checker import Checker

CHECKERS: dict[str, Checker] = {
    one.name: one
    for one in (
        number.CHECKER,
        exact.CHECKER,
        formula.CHECKER,
        letter.CHECKER,
        contains.CHECKER,
        pattern.CHECKER,
        doctests.CHECKER,
    )
}

__all__ = ["CHECKERS", "Checker"]

"""Answers that need only occur somewhere."""

from lorafuse_jax.evaluation.checkers import exact
from lorafuse_jax.evaluation.checkers.checker import Checker, by_looking


def matches(text: str, gold: str) -> bool:
    """Whether the words of the gold answer stand in the text, one after the other.

    Signs without any word, such as ``<=``, may stand anywhere.
    """
    if not exact.WORD.search(gold):
        return gold.strip() in text
    return f" {exact.normalized(gold)} " in f" {exact.normalized(text)} "


CHECKER = Checker(
    name="contains",
    about="the answer's words stand somewhere in the text",
    score=by_looking(matches),
    problem=exact.CHECKER.problem,
)

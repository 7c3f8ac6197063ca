"""Answers that are described by a regular expression."""

import re

from lorafuse_jax.evaluation.checkers.checker import Checker, by_looking


def matches(text: str, gold: str) -> bool:
    """Whether the expression is found anywhere in the text; ``^`` and ``$`` are its two ends."""
    return re.search(gold, text) is not None


def _problem(gold: str) -> str | None:
    try:
        re.compile(gold)
    except re.error as error:
        return f"the answer {gold!r} is no regular expression ({error})"
    return None


CHECKER = Checker(
    name="regex",
    about="the answer is a regular expression, and is found in the text",
    score=by_looking(matches),
    problem=_problem,
)

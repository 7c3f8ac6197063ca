"""Short texts, compared without case, punctuation and spacing."""

import re

from lorafuse_jax.evaluation.checkers.checker import Checker, by_finding

MARK = "####"


def find(text: str) -> str | None:
    """What stands after the last ``####``, else the first line with words in it, normalised."""
    _, mark, after = text.rpartition(MARK)
    lines = (normalized(line) for line in (after if mark else text).splitlines())
    return next((line for line in lines if line), None)


def normalized(text: str) -> str:
    """The words of a text in lower case, one space between them; articles stay."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def matches(found: str | None, gold: str) -> bool:
    """Equality in words."""
    return found is not None and found == normalized(gold)


def _problem(gold: str) -> str | None:
    return None if normalized(gold) else f"the answer {gold!r} has no letter and no digit"


CHECKER = Checker(
    name="exact",
    about="the answer's first line, or what stands after ####, equal in words",
    score=by_finding(find, matches),
    problem=_problem,
)

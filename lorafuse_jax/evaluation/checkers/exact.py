"""Short texts, compared without case, spacing, and punctuation outside of numbers."""

import re

from lorafuse_jax.evaluation.checkers.checker import Checker, by_finding
from lorafuse_jax.worked import HASHES

WORD = re.compile(r"(?<!\w)-?\d+(?:[.,]\d+)*|[^\W_]+")
"""A number keeps its sign and its digits together: -5 is not 5, nor is 3.5."""


def find(text: str) -> str | None:
    """What stands after the last ``####``, else the first line with words in it, normalised.

    Without any words, the first line that is not empty.
    """
    _, mark, after = text.rpartition(HASHES)
    lines = [line for line in (after if mark else text).splitlines() if line.strip()]
    chosen = next((line for line in lines if WORD.search(line)), lines[0] if lines else None)
    return None if chosen is None else normalized(chosen)


def normalized(text: str) -> str:
    """The words of a text in lower case, one space between them; articles stay.

    Of a text without words, such as ``<=``, its signs.
    """
    return " ".join(WORD.findall(text.lower())) or "".join(text.split())


def matches(found: str | None, gold: str) -> bool:
    """Equality in words."""
    return found is not None and found == normalized(gold)


def _problem(gold: str) -> str | None:
    return None if gold.strip() else f"the answer {gold!r} is empty"


CHECKER = Checker(
    name="exact",
    about="the answer's first line, or what stands after ####, equal in words",
    score=by_finding(find, matches),
    problem=_problem,
)

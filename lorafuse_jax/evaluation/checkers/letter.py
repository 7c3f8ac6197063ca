"""Answers that are the letter of a choice."""

import re

from lorafuse_jax.evaluation.checkers.checker import Checker, by_finding

OPENING, CLOSING = r"[\s\"'*$(\[]*", r"[\s\"'*]*"
MARKED = re.compile(rf"####{OPENING}([A-Za-z])(?![A-Za-z'])")
SAID = re.compile(
    r"\b[Aa]nswer(?: is)?:?"
    + OPENING
    + r"(?:\\\w+\{\(?)*(?!I [a-z])([A-Z]|(?<=\()[a-z](?=\)))(?![A-Za-z'])"
)
ALONE = re.compile(rf"\A{OPENING}([A-Z]){CLOSING}(?:[).,:\]]|\n|\Z)")
IN_BRACKETS = re.compile(r"\(([A-Z])\)")


def find(text: str) -> str | None:
    """The letter after the last ``####`` or ``answer is``, else at the start, else in brackets."""
    for pattern in (MARKED, SAID, ALONE, IN_BRACKETS):
        found = pattern.findall(text)
        if found:
            return found[-1].upper()
    return None


def matches(found: str | None, gold: str) -> bool:
    """Equality, ``(b)`` is ``B``."""
    return found is not None and found == _letter(gold)


def _letter(gold: str) -> str | None:
    found = re.fullmatch(r"\s*\(?([A-Za-z])[).]?\s*", gold)
    return found.group(1).upper() if found else None


def _problem(gold: str) -> str | None:
    return None if _letter(gold) else f"the answer {gold!r} is no single letter"


CHECKER = Checker(
    name="choice",
    about="a letter: after ####, after 'answer is', at the start, or in brackets",
    score=by_finding(find, matches),
    problem=_problem,
)

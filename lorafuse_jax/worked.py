"""Worked answers as published data sets write them: what they hold, where the answer stands."""

import re
from collections.abc import Iterator

HASHES = "####"
SAID = "The answer is: "
MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
"""The parts of MATH, as its repository on the hub names them."""


def without_calculator(worked: str) -> str:
    """GSM8K's (2110.14168) without the ``<<3*4=12>>`` that a calculator would fill in."""
    return re.sub(r"<<[^<>]*>>", "", worked)


def after_hashes(worked: str) -> str | None:
    """GSM8K's answer: what follows the last ``####``, without commas; None if there is nothing."""
    _, mark, after = worked.rpartition(HASHES)
    return after.strip().replace(",", "") or None if mark else None


def after_said(worked: str) -> str | None:
    """MetaMathQA's (2309.12284) answer: what follows the last ``The answer is:``."""
    _, mark, after = worked.rpartition(SAID)
    return after.strip() or None if mark else None


def in_box(worked: str) -> str | None:
    r"""MATH's (2103.03874) answer: what the last ``\boxed{...}`` or ``\fbox{...}`` holds.

    Braces are balanced, those after a backslash are signs of the formula. ``\boxed 5`` holds what
    follows up to a space or the end of the formula. None if there is no box, or it does not end.
    """
    box = max(worked.rfind(r"\boxed"), worked.rfind(r"\fbox"))
    if box < 0:
        return None
    after = re.sub(r"^\\(boxed|fbox)\s*", "", worked[box:])
    if not after.startswith("{"):
        return re.split(r"[\s$]", after)[0] or None
    closing = next((place for place, depth in _braces(after) if depth == 0), None)
    return None if closing is None else after[1:closing].strip() or None


def braces_match(formula: str) -> bool:
    """Whether every brace is closed, and none before it was opened."""
    depths = [depth for _, depth in _braces(formula)]
    return all(depth >= 0 for depth in depths) and depths[-1:] in ([], [0])


def _braces(formula: str) -> Iterator[tuple[int, int]]:
    """The place of every brace, and how many are open after it."""
    depth = 0
    for sign in re.finditer(r"\\.|[{}]", formula, re.DOTALL):
        if sign.group() in "{}":
            depth += 1 if sign.group() == "{" else -1
            yield sign.start(), depth

"""The little language of the controlled world: skills to pretrain on, and two tasks beyond them.

Words are tokens, numbers are digits. A decoder learns single steps first: sums and differences,
stories of one step, one change to a list of digits. The tasks take what it knows where it has not
been: stories told backwards (``stories``), and two changes at once (``programs``). Of each there is
a kind that is in no training problem and measures what carries over: other verbs, other pairs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

NAMES = ("ann", "bob", "eve", "jim", "kim", "lea", "max", "zoe")
THINGS = ("figs", "pens", "cups", "nuts", "keys", "hats", "eggs", "bags")
GAINS = ("buys", "finds", "gets", "picks")
LOSSES = ("loses", "sells", "eats", "drops")
CHANGES: dict[str, Callable[[list[int]], list[int]]] = {
    "sort": sorted,
    "turn": lambda digits: digits[::-1],
    "next": lambda digits: [(digit + 1) % 10 for digit in digits],
    "shift": lambda digits: [*digits[1:], digits[0]],
    "swap": lambda digits: [digits[-1], *digits[1:-1], digits[0]],
}
SIGNS = ("plus", "minus", "is", "so", ":", ".", "?")
OTHER = ("has", "then", "how", "many")
WORDS = (*map(str, range(10)), *SIGNS, *OTHER, *NAMES, *THINGS, *GAINS, *LOSSES, *CHANGES)
HIGHEST = 99
"""Every number of a sum or a difference is in [0, HIGHEST]."""


class Problem(NamedTuple):
    """A question and its worked answer, in words of the language with blanks between."""

    prompt: str
    completion: str


def spelled(number: int) -> str:
    """Digits with blanks between: ``34`` is ``3 4``."""
    return " ".join(str(number))


def _step(rng: np.random.Generator, have: int) -> tuple[str, int, int]:
    """A sign, a number, and what there is afterwards."""
    if rng.random() < 0.5:
        number = int(rng.integers(0, HIGHEST - have + 1))
        return "plus", number, have + number
    number = int(rng.integers(0, have + 1))
    return "minus", number, have - number


def sum_or_difference(rng: np.random.Generator) -> Problem:
    """One sum or difference of numbers up to 99."""
    have = int(rng.integers(0, HIGHEST + 1))
    sign, number, result = _step(rng, have)
    return Problem(f"{spelled(have)} {sign} {spelled(number)}", spelled(result))


def story(rng: np.random.Generator) -> Problem:
    """What there was, what happened; what is there now?"""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    had = int(rng.integers(0, HIGHEST + 1))
    sign, number, has = _step(rng, had)
    verb = rng.choice(GAINS if sign == "plus" else LOSSES)
    told = f"{name} has {spelled(had)} {thing} . {name} {verb} {spelled(number)} ."
    return Problem(f"{told} how many {thing} ?", spelled(has))


def change(rng: np.random.Generator) -> Problem:
    """A list of 4 or 5 digits, changed once."""
    digits, name = _digits(rng), rng.choice(list(CHANGES))
    return Problem(f"{name} : {_listed(digits)}", _listed(CHANGES[name](digits)))


def skill(rng: np.random.Generator) -> Problem:
    """What the decoder is pretrained on."""
    return (sum_or_difference, story, change)[rng.integers(3)](rng)


def story_backwards(rng: np.random.Generator, unseen: bool) -> Problem:
    """What happened, what is there now; what was there before? Unseen is how it is told."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    had = int(rng.integers(0, HIGHEST + 1))
    sign, number, has = _step(rng, had)
    verbs = GAINS if sign == "plus" else LOSSES
    verb = rng.choice(verbs[-1:] if unseen else verbs[:-1])
    told = f"{name} {verb} {spelled(number)} . then {name} has {spelled(has)} {thing} ."
    return Problem(f"{told} how many {thing} has {name} ?", spelled(had))


PAIRS = tuple((first, second) for first in CHANGES for second in CHANGES)
UNSEEN = (
    ("turn", "next"),
    ("next", "swap"),
    ("swap", "turn"),
    ("sort", "shift"),
    ("shift", "sort"),
)
"""Pairs of changes that no training problem has; each change is in others."""


def program(rng: np.random.Generator, unseen: bool) -> Problem:
    """Two changes at once, from left to right; unseen is which two."""
    pairs = UNSEEN if unseen else [pair for pair in PAIRS if pair not in UNSEEN]
    first, second = pairs[rng.integers(len(pairs))]
    digits = _digits(rng)
    done = CHANGES[second](CHANGES[first](digits))
    return Problem(f"{first} {second} : {_listed(digits)}", _listed(done))


def _digits(rng: np.random.Generator) -> list[int]:
    return rng.integers(0, 10, size=int(rng.integers(4, 6))).tolist()


def _listed(digits: list[int]) -> str:
    return " ".join(map(str, digits))


TASKS: dict[str, Callable[[np.random.Generator, bool], Problem]] = {
    "programs": program,
    "stories": story_backwards,
}
"""``(rng, unseen)``: problems of the trained kind, or of a kind that no training problem is."""


def draw(
    make: Callable[[np.random.Generator], Problem],
    rng: np.random.Generator,
    count: int,
    without: set[str] = frozenset(),  # type: ignore[assignment]
) -> list[Problem]:
    """Problems whose prompts differ from each other and from others.

    Args:
        make: one problem.
        rng: randomness.
        count: how many.
        without: prompts that are not to be drawn.
    """
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = make(rng)
        if problem.prompt not in without:
            found.setdefault(problem.prompt, problem)
    return list(found.values())

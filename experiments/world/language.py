"""The little language of the controlled world: skills to pretrain on, and two harder tasks.

Words are tokens, numbers are digits. A decoder learns single steps first: sums and differences, one
change to a list of digits, word problems of one step. The tasks chain what it knows, with the steps
written out: word problems of two steps (``words``), and two changes to a list (``programs``). Three
steps are never trained on and measure what carries over.
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


def story(rng: np.random.Generator, steps: int) -> Problem:
    """A word problem; with more than one step the completion writes each of them out."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    have = int(rng.integers(0, HIGHEST + 1))
    told, worked = [f"{name} has {spelled(have)} {thing} ."], []
    for number_of_step in range(steps):
        sign, number, result = _step(rng, have)
        verb = rng.choice(GAINS if sign == "plus" else LOSSES)
        then = "then " if number_of_step else ""
        told.append(f"{then}{name} {verb} {spelled(number)} .")
        worked.append(f"{spelled(have)} {sign} {spelled(number)} is {spelled(result)}")
        have = result
    completion = spelled(have) if steps == 1 else " so ".join(worked)
    return Problem(" ".join([*told, f"how many {thing} ?"]), completion)


def program(rng: np.random.Generator, steps: int) -> Problem:
    """Changes to a list of 4 or 5 digits, from left to right; the completion is every state."""
    digits = rng.integers(0, 10, size=int(rng.integers(4, 6))).tolist()
    names = rng.choice(list(CHANGES), size=steps).tolist()
    states, now = [], digits
    for name in names:
        now = CHANGES[name](now)
        states.append(" ".join(map(str, now)))
    return Problem(f"{' '.join(names)} : {' '.join(map(str, digits))}", " so ".join(states))


def skill(rng: np.random.Generator) -> Problem:
    """What the decoder is pretrained on."""
    kind = rng.integers(3)
    if kind == 0:
        return sum_or_difference(rng)
    return story(rng, 1) if kind == 1 else program(rng, 1)


TASKS: dict[str, Callable[[np.random.Generator, int], Problem]] = {
    "words": story,
    "programs": program,
}


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

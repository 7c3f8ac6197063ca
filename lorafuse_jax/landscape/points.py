"""Where the loss is looked at: weights of the members' deltas, on lines, a triangle and subsets."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np

Weights: TypeAlias = tuple[float, ...]
"""One a member, in the order of the members: the point ``sum_s w_s delta_s``."""

Subset: TypeAlias = tuple[int, ...]
"""Numbers of members, rising."""

STEPS = 8
"""Parts of a line between two members, and of the triangle's sides, so that they share points."""

BEYOND = 0.25
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)

DRAW_SEED = 0
"""Of the subsets that are drawn where there are too many: the same for every run."""


def line_places() -> tuple[float, ...]:
    """Places t on a line from 0 to 1, and one beyond either end."""
    return (-BEYOND, *(k / STEPS for k in range(STEPS + 1)), 1 + BEYOND)


def on_line(first: int, second: int, t: float, members: int) -> Weights:
    """``(1 - t) first + t second``, between the deltas, never between their factors."""
    return _weights({first: 1 - t, second: t}, members)


def triangle(corners: Sequence[int], members: int) -> list[Weights]:
    """The barycentric grid on three members, its sides cut into ``STEPS``, and its centre."""
    grid = [
        (a / STEPS, b / STEPS, (STEPS - a - b) / STEPS)
        for a in range(STEPS, -1, -1)
        for b in range(STEPS - a, -1, -1)
    ]
    centre = (1 / 3, 1 / 3, 1 / 3)
    return [
        _weights(dict(zip(corners, shares, strict=True)), members) for shares in (*grid, centre)
    ]


def uniform(subset: Subset, members: int, scale: float = 1.0) -> Weights:
    """``scale`` times the mean of some members."""
    return _weights(dict.fromkeys(subset, scale / len(subset)), members)


def subsets_of(members: int, size: int, most: int) -> list[Subset]:
    """All subsets of one size, or ``most`` different ones of them, drawn; the same every time.

    The members alone are never drawn: there are as many as there are members.
    """
    if size == 1 or math.comb(members, size) <= most:
        return list(combinations(range(members), size))
    rng = np.random.default_rng((DRAW_SEED, members, size))
    drawn: set[Subset] = set()
    while len(drawn) < most:
        drawn.add(tuple(sorted(rng.choice(members, size, replace=False).tolist())))
    return sorted(drawn)


def name_of(weights: Weights, labels: Sequence[object]) -> str:
    """What a point is called, and known by: ``0.25*11 + 0.75*42``; ``0`` is the base."""
    parts = [f"{w:.6g}*{label}" for w, label in zip(weights, labels, strict=True) if w]
    return " + ".join(parts) or "0"


def subset_name(operator: str, subset: Subset, labels: Sequence[object]) -> str:
    """What an operator's result is called: ``ties(11+42)``."""
    return f"{operator}({'+'.join(str(labels[number]) for number in subset)})"


def _weights(shares: dict[int, float], members: int) -> Weights:
    return tuple(shares.get(number, 0.0) for number in range(members))

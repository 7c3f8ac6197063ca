"""All points of a landscape, named, so that each is looked at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lorafuse_jax.landscape.points import (
    SCALES,
    Subset,
    Weights,
    line_places,
    name_of,
    on_line,
    subsets_of,
    triangle,
    uniform,
)


@dataclass(frozen=True)
class Plan:
    """Where to look, as names of points.

    Attributes:
        seeds: of the members, in order.
        lines: pair of members -> a point a place of ``line_places()``.
        corners: members of the triangle; none where there are fewer than three.
        triangle: weights [3] of the corners -> point.
        subsets: of all sizes, each size whole or drawn.
        scales: one member, or all of them -> a point a scale of ``SCALES``.
        weights: of every point named so far.
    """

    seeds: tuple[int, ...]
    lines: dict[Subset, list[str]]
    corners: Subset
    triangle: dict[Weights, str]
    subsets: list[Subset]
    scales: dict[Subset, list[str]]
    weights: dict[str, Weights]

    @property
    def singles(self) -> list[str]:
        """The members alone."""
        size = len(self.seeds)
        return [name_of(uniform((k,), size), self.seeds) for k in range(size)]

    def notes(self) -> list[str]:
        """What was drawn and is not complete."""
        size = len(self.seeds)
        lines = []
        if len(self.lines) < math.comb(size, 2):
            lines.append(f"lines between {len(self.lines)} of {math.comb(size, 2)} pairs, drawn")
        for k in range(2, size + 1):
            count = sum(len(subset) == k for subset in self.subsets)
            if count < math.comb(size, k):
                lines.append(f"{count} of {math.comb(size, k)} subsets of {k} seeds, drawn")
        return lines


def make_plan(seeds: Sequence[int], corners: Subset, most: int) -> Plan:
    """The points of all parts.

    Args:
        seeds: two or more.
        corners: three members, or none for no triangle.
        most: subsets of one size, and pairs, at most.
    """
    size, weights = len(seeds), {}

    def named(point: Weights) -> str:
        name = name_of(point, seeds)
        weights[name] = point
        return name

    places = line_places()
    pairs = subsets_of(size, 2, most)
    lines: dict[Subset, list[str]] = {
        (a, b): [named(on_line(a, b, t, size)) for t in places] for a, b in pairs
    }
    grid = triangle(corners, size) if corners else []
    everyone = tuple(range(size))
    scaled = [*((k,) for k in everyone), everyone]
    scales = {some: [named(uniform(some, size, s)) for s in SCALES] for some in scaled}
    return Plan(
        seeds=tuple(seeds),
        lines=lines,
        corners=corners,
        triangle={tuple(point[k] for k in corners): named(point) for point in grid},
        subsets=[one for k in range(1, size + 1) for one in subsets_of(size, k, most)],
        scales=scales,
        weights=weights,
    )

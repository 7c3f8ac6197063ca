"""All that a landscape has to tell, from the losses at its points."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lorafuse_jax.landscape.measures import (
    Barrier,
    Estimate,
    SizeGain,
    barrier,
    contrast,
    gain_of_size,
)
from lorafuse_jax.landscape.plan import Plan
from lorafuse_jax.landscape.points import SCALES, Subset, Weights, line_places


@dataclass(frozen=True)
class Line:
    """The losses between two seeds.

    Attributes:
        seeds: at t = 0 and t = 1.
        losses: at ``line_places()``.
        barrier: see there.
        middle: loss at t = 1/2 minus the mean of the ends' (negative: the valley is lower).
    """

    seeds: tuple[int, int]
    losses: list[float]
    barrier: Barrier
    middle: Estimate


@dataclass(frozen=True)
class Scale:
    """The losses of ``s`` times a seed, or times the mean of all.

    Attributes:
        name: ``11``, or ``mean``.
        losses: at ``SCALES``.
        gain: loss at s = 1 minus the lowest; the error is that of the place, whose choice as the
            lowest it leaves out.
        best: s of the lowest.
    """

    name: str
    losses: list[float]
    gain: Estimate
    best: float


@dataclass(frozen=True)
class Landscape:
    """All of it; losses are in nats per answer token.

    Attributes:
        seeds: whose landscape it is.
        examples: how many it was measured on.
        singles: loss of each seed alone.
        lines: between pairs.
        corners: seeds of the triangle; none if there is no triangle.
        triangle: weights of the corners and the loss there.
        sizes: operator -> subsets of every size.
        scales: of every seed, then of the mean of all.
        fusion: mean loss of the seeds minus that of their mean.
        scaled_fusion: the same with each at its own best scale: what no scale explains.
        notes: what was drawn instead of complete.
    """

    seeds: tuple[int, ...]
    examples: int
    singles: list[Estimate]
    lines: list[Line]
    corners: tuple[int, ...]
    triangle: list[tuple[Weights, float]]
    sizes: dict[str, list[SizeGain]]
    scales: list[Scale]
    fusion: Estimate
    scaled_fusion: Estimate
    notes: list[str]


def summarize_landscape(
    plan: Plan,
    subset_points: Mapping[str, Mapping[Subset, str]],
    losses_of: Callable[[Sequence[str]], Float[np.ndarray, "P E"]],
    tokens: Float[np.ndarray, " E"],
) -> Landscape:
    """What the losses say.

    Args:
        plan: the points.
        subset_points: operator -> subset -> name of the point of its fused adapter.
        losses_of: names of points -> loss of each example.
        tokens: weight of the answer tokens of each example.
    """
    seeds = plan.seeds
    singles = losses_of(plan.singles)
    everyone = tuple(range(len(seeds)))
    shares = [1 / len(seeds)] * len(seeds)
    scaled = {some: losses_of(names) for some, names in plan.scales.items()}
    own = SCALES.index(1.0)
    lowest = {some: losses[_lowest(losses)] for some, losses in scaled.items()}
    both = np.array([*(lowest[(k,)] for k in everyone), lowest[everyone]])
    mean = scaled[everyone][own]
    grid = losses_of(list(plan.triangle.values())) if plan.triangle else np.zeros((0, len(tokens)))
    return Landscape(
        seeds=seeds,
        examples=len(tokens),
        singles=[contrast(one[None], [1.0], tokens) for one in singles],
        lines=[
            _line((seeds[a], seeds[b]), losses_of(names), tokens)
            for (a, b), names in plan.lines.items()
        ],
        corners=tuple(seeds[k] for k in plan.corners),
        triangle=list(zip(plan.triangle, (grid.sum(1) / tokens.sum()).tolist(), strict=True)),
        sizes={
            operator: _sizes(points, singles, losses_of, tokens)
            for operator, points in subset_points.items()
        },
        scales=[
            _scale(str(seeds[some[0]]) if len(some) == 1 else "mean", losses, tokens)
            for some, losses in scaled.items()
        ],
        fusion=contrast(np.array([*singles, mean]), [*shares, -1.0], tokens),
        scaled_fusion=contrast(both, [*shares, -1.0], tokens),
        notes=plan.notes(),
    )


def _line(seeds: tuple[int, int], losses: np.ndarray, tokens: np.ndarray) -> Line:
    places = line_places()
    three = losses[[places.index(t) for t in (0.0, 0.5, 1.0)]]
    return Line(
        seeds=seeds,
        losses=(losses.sum(1) / tokens.sum()).tolist(),
        barrier=barrier(places, losses, tokens),
        middle=contrast(three, [-0.5, 1.0, -0.5], tokens),
    )


def _sizes(
    points: Mapping[Subset, str],
    singles: np.ndarray,
    losses_of: Callable[[Sequence[str]], np.ndarray],
    tokens: np.ndarray,
) -> list[SizeGain]:
    sizes = sorted({len(subset) for subset in points})
    return [
        gain_of_size(
            size,
            losses_of([name for subset, name in points.items() if len(subset) == size]),
            singles,
            tokens,
        )
        for size in sizes
    ]


def _scale(name: str, losses: np.ndarray, tokens: np.ndarray) -> Scale:
    best, own = _lowest(losses), SCALES.index(1.0)
    return Scale(
        name=name,
        losses=(losses.sum(1) / tokens.sum()).tolist(),
        gain=contrast(losses[[own, best]], [1.0, -1.0], tokens),
        best=SCALES[best],
    )


def _lowest(losses: np.ndarray) -> int:
    return int(losses.sum(1).argmin())

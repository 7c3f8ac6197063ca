"""The loss landscape as a figure: lines, the triangle, number of seeds, scale."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorafuse_jax.landscape.points import SCALES, line_places
from lorafuse_jax.landscape.summary import Landscape
from lorafuse_jax.report.figure import FUSED, LABEL, PALETTE, clean

MOST_IN_LEGEND = 10
CORNERS = np.array([(0.0, 0.0), (1.0, 0.0), (0.5, 3**0.5 / 2)])


def landscape_figure(found: Landscape) -> Figure:
    """Four panels; without a triangle three."""
    panels = [_lines, _triangle, _sizes, _scales] if found.triangle else [_lines, _sizes, _scales]
    rows = 2 if found.triangle else 1
    figure = Figure(figsize=(11, 3.9 * rows + 0.3), layout="constrained")
    places = figure.subplots(rows, len(panels) // rows, squeeze=False)
    for draw, axes in zip(panels, places.ravel(), strict=True):
        draw(axes, found)
    figure.suptitle(
        f"held-out loss, nats per answer token, {found.examples} examples",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    return figure


def _lines(axes: Axes, found: Landscape) -> None:
    places = line_places()
    start, end = places.index(0.0), places.index(1.0)
    for number, line in enumerate(found.lines):
        colour = PALETTE[number % len(PALETTE)]
        label = f"{line.seeds[0]} to {line.seeds[1]}"
        axes.plot(places, line.losses, color=colour, marker="o", ms=3, lw=1.2, label=label)
        ends = [line.losses[start], line.losses[end]]
        axes.plot([0, 1], ends, color=colour, lw=0.8, ls=":")
    for t in (0, 1):
        axes.axvline(t, color="#b9bdc4", lw=0.7)
    if len(found.lines) <= MOST_IN_LEGEND:
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("t in (1 - t) a + t b; dotted: between the ends")
    _title(axes, "between two seeds, some pairs" if _some_pairs(found) else "between two seeds")


def _some_pairs(found: Landscape) -> bool:
    return len(found.lines) < math.comb(len(found.seeds), 2)


def _triangle(axes: Axes, found: Landscape) -> None:
    weights = np.array([point for point, _ in found.triangle])
    losses = np.array([loss for _, loss in found.triangle])
    x, y = (weights @ CORNERS).T
    filled = axes.tricontourf(x, y, losses, levels=14, cmap="viridis_r")
    axes.tricontour(x, y, losses, levels=14, colors="white", linewidths=0.3)
    axes.plot(x, y, ".", color="white", ms=2)
    lowest = int(losses.argmin())
    axes.plot(x[lowest], y[lowest], "*", color="white", mec=LABEL, ms=11)
    for seed, (left, up) in zip(found.corners, CORNERS, strict=True):
        if up:  # beside the top, where the title is not
            axes.text(left + 0.05, up, f"seed {seed}", ha="left", va="top", fontsize=9)
        else:
            axes.text(left, up - 0.03, f"seed {seed}", ha="center", va="top", fontsize=9)
    axes.figure.colorbar(filled, ax=axes, pad=0.02)
    axes.set_aspect("equal")
    axes.set_axis_off()
    _title(axes, "among three seeds (star: lowest)")


def _sizes(axes: Axes, found: Landscape) -> None:
    count = len(found.sizes)
    for number, (operator, sizes) in enumerate(found.sizes.items()):
        colour = PALETTE[number % len(PALETTE)]
        shift = 0.12 * (number - (count - 1) / 2)
        for one in sizes:
            axes.plot(
                [one.size + shift] * len(one.losses), one.losses, ".", color=colour, alpha=0.5
            )
        middle = [float(np.mean(one.losses)) for one in sizes]
        axes.plot([one.size + shift for one in sizes], middle, color=colour, lw=1.4, label=operator)
    axes.set_xticks(range(1, len(found.seeds) + 1))
    axes.set_xlabel("seeds fused; a dot a subset, the line their mean")
    if found.sizes:
        axes.legend(frameon=False, fontsize=8)
    _title(axes, "by number of seeds")


def _scales(axes: Axes, found: Landscape) -> None:
    for number, one in enumerate(found.scales):
        whole = one.name == "mean"
        axes.plot(
            SCALES,
            one.losses,
            color=FUSED if whole else PALETTE[number % len(PALETTE)],
            lw=2 if whole else 1,
            marker="o",
            ms=3,
            label="mean of all" if whole else f"seed {one.name}",
        )
    axes.axvline(1, color="#b9bdc4", lw=0.7)
    if len(found.scales) <= MOST_IN_LEGEND:
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("scale s of the update")
    _title(axes, "by scale")


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, color=LABEL)
    clean(axes)

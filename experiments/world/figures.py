"""The controlled world's results as one picture a task."""

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from experiments.world.conditions import MEMBERS
from experiments.world.config import LAPTOP
from experiments.world.judged import Judged, judged_rows, seeds_of, values
from experiments.world.record import read_marks
from experiments.world.rows import ROWS
from lorafuse_jax.evaluation.statistics import gain_over_groups
from lorafuse_jax.report.figure import COLOURS, PALETTE, clean

CURVES = ("mean", "mean, scale chosen", "version 1", "version 2", "ensemble of logits")
NULLS = ("random members", "layers shuffled")
CONTROLS = ("rank n r", "n times longer", "full fine-tuning")
OUTPUTS = ("ensemble of logits", "majority vote")


def world_figure(results: Path, task: str) -> Figure:
    """Gains of every row; the curve over the number of seeds; held-out loss over the scale."""
    table = read_marks(results / f"{task}-test.npz")
    rows = [
        one for one in judged_rows(table) if not np.isnan(one.p_value) and one.name not in NULLS
    ]
    figure = Figure(figsize=(11, 0.24 * len(rows) + 1.6), layout="constrained")
    places = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    _gains(figure.add_subplot(places[:, 0]), rows)
    _scales(figure.add_subplot(places[0, 1]), results, task)
    if (results / f"{task}-n{LAPTOP.counts[0]}.npz").exists():
        _counts(figure.add_subplot(places[1, 1]), results, task)
    groups = len(table["mean"])
    figure.suptitle(f"{task}: gain over the mean seed, {groups} groups of three", x=0.01, ha="left")
    return figure


def _colour(name: str) -> str:
    if name in CONTROLS:
        return COLOURS["mean seed"]
    return COLOURS["vote"] if name in OUTPUTS else COLOURS["fused"]


def _gains(axes: Axes, rows: list[Judged]) -> None:
    ordered = sorted(rows, key=lambda one: one.gain.value)
    for place, one in enumerate(ordered):
        colour, gain = _colour(one.name), one.gain
        axes.plot([100 * gain.low, 100 * gain.high], [place, place], color=colour, lw=2)
        axes.plot([100 * gain.value], [place], "o", color=colour, ms=5)
    axes.axvline(0, color=COLOURS["mean seed"], lw=0.8, ls=":")
    axes.set_yticks(range(len(ordered)), [one.name for one in ordered], fontsize=8)
    axes.set_ylim(-0.8, len(ordered) - 0.2)
    axes.set_xlim(left=max(-30, 100 * min(one.gain.low for one in ordered) - 1))
    axes.set_xlabel("points; bars are 95 % over groups and problems")
    axes.grid(axis="x", color="#e3e5e8", lw=0.6)
    clean(axes)


def _counts(axes: Axes, results: Path, task: str) -> None:
    counts = [
        n for n in sorted({*LAPTOP.counts, MEMBERS}) if (results / f"{task}-n{n}.npz").exists()
    ]
    tables = [read_marks(results / f"{task}-n{count}.npz") for count in counts]
    for name, colour in zip(CURVES, PALETTE, strict=False):
        gains = [
            gain_over_groups(values(t[name]) - seeds_of(t).mean(axis=0), bounded=True).interval()
            for t in tables
        ]
        axes.plot(
            counts, [100 * gain.value for gain in gains], "o-", ms=4, color=colour, label=name
        )
    axes.axhline(0, color=COLOURS["mean seed"], lw=0.8, ls=":")
    axes.set_xlabel("number of seeds")
    axes.set_ylabel("gain, points")
    axes.legend(fontsize=7, frameon=False)
    clean(axes)


def _scales(axes: Axes, results: Path, task: str) -> None:
    file = results / f"{task}-chosen.json"
    losses = json.loads(file.read_text())
    for name, colour in (
        ("mean, scale chosen", PALETTE[1]),
        ("one seed, scale chosen", PALETTE[0]),
    ):
        factors = [settings.get("factor", 1.0) for settings in ROWS[name].settings]
        order = np.argsort(factors)
        axes.plot(
            np.array(factors)[order],
            np.array(losses[name])[order],
            "o-",
            ms=4,
            color=colour,
            label=name.split(",")[0],
        )
    axes.set_xlabel("scale of the update")
    axes.set_ylabel("held-out loss, nats a token")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([0.5, 1, 2, 4])
    axes.legend(fontsize=7, frameon=False)
    clean(axes)

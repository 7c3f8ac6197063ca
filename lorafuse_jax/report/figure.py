"""Figures as SVG text: results with intervals, held-out loss while training."""

from io import StringIO

import matplotlib

matplotlib.use("agg")

from matplotlib.figure import Figure

from lorafuse_jax.evaluation.summary import Row, RowKind, Summary

COLOURS: dict[RowKind, str] = {
    "base": "#8a8f98",
    "seed": "#4c78a8",
    "mean seed": "#1f3f66",
    "best seed": "#4c78a8",
    "fused": "#d9622b",
    "vote": "#7a52a3",
    "union": "#b9bdc4",
}


def results_figure(summary: Summary) -> Figure:
    """Accuracy and log-likelihood of every row, with 95 % intervals and the mean seed's line."""
    rows = summary.rows[::-1]
    figure = Figure(figsize=(10, 0.34 * len(rows) + 1.3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        _dot(left, place, row.accuracy, row, 100)
        if row.log_likelihood is not None:
            _dot(right, place, row.log_likelihood, row, 1)
    left.set_yticks(range(len(rows)), [row.name for row in rows])
    mean = summary.row("mean seed")
    left.axvline(100 * mean.accuracy.value, color=COLOURS["mean seed"], lw=0.8, ls=":")
    if mean.log_likelihood is not None:
        right.axvline(mean.log_likelihood.value, color=COLOURS["mean seed"], lw=0.8, ls=":")
    left.set_xlabel("accuracy, %")
    right.set_xlabel("log-likelihood of the reference, nats per token")
    # The untrained base is so far off that with it the others could not be told apart.
    shown = [row.log_likelihood for row in rows if row.log_likelihood and row.kind != "base"]
    low, high = min(bar.low for bar in shown), max(bar.high for bar in shown)
    margin = 0.05 * (high - low) or 0.01
    right.set_xlim(low - margin, high + margin)
    figure.suptitle(f"{summary.task}, {summary.examples} examples", x=0.01, ha="left")
    for axes in (left, right):
        _clean(axes)
        axes.grid(axis="x", color="#e3e5e8", lw=0.6)
    return figure


def loss_figure(metrics: list[dict]) -> Figure:
    """Training loss (thin) and held-out loss (dots) of every seed."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots()
    palette = ("#4c78a8", "#d9622b", "#54a24b", "#7a52a3", "#b5892b", "#3a9ea5", "#c44e6b", "#777")
    for number, seed in enumerate(dict.fromkeys(line["seed"] for line in metrics)):
        colour = palette[number % len(palette)]
        own = [line for line in metrics if line["seed"] == seed]
        held = [line for line in own if "heldout_loss" in line]
        axes.plot([x["step"] for x in own], [x["train_loss"] for x in own], color=colour, lw=0.7)
        axes.plot(
            [x["step"] for x in held],
            [x["heldout_loss"] for x in held],
            color=colour,
            marker="o",
            ms=4,
            label=f"seed {seed}",
        )
    axes.set_xlabel("step (thin: training batch; dots: held-out)")
    axes.set_ylabel("nats per answer token")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    _clean(axes)
    return figure


def svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element."""
    text = StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def _dot(axes, place: int, interval, row: Row, factor: int) -> None:
    axes.plot(
        [factor * interval.low, factor * interval.high],
        [place, place],
        color=COLOURS[row.kind],
        lw=2,
    )
    axes.plot([factor * interval.value], [place], "o", color=COLOURS[row.kind], ms=6)


def _clean(axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

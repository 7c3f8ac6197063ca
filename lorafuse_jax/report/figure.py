"""Results with intervals as a picture, for a README or a paper."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lorafuse_jax.evaluation.statistics import Interval
from lorafuse_jax.evaluation.summary import Row, RowKind, Summary

COLOURS: dict[RowKind, str] = {
    "base": "#8a8f98",
    "seed": "#4c78a8",
    "mean seed": "#1f3f66",
    "best seed": "#4c78a8",
    "fused": "#d9622b",
    "control": "#3d8b50",
    "ensemble": "#7a52a3",
    "vote": "#7a52a3",
    "union": "#b9bdc4",
}
LABEL = "#3a3f47"
PALETTE = ("#4c78a8", "#d9622b", "#54a24b", "#7a52a3", "#b5892b", "#3a9ea5", "#c44e6b", "#777777")
"""Of curves, one a seed."""
FUSED = "#1d1f23"


def results_figure(summary: Summary) -> Figure:
    """Accuracy and log-likelihood of every row, with 95 % intervals and the mean seed's line.

    The untrained base is so far off in log-likelihood that with it the others could not be told
    apart: where it falls outside, its value stands at the edge instead of a dot. Where no
    log-likelihood was asked, accuracy stands alone.
    """
    rows = summary.rows[::-1]
    figure = Figure(figsize=(10, 0.34 * len(rows) + 1.3), layout="constrained")
    likelihoods = [(row, row.log_likelihood) for row in rows]
    both = any(interval for _, interval in likelihoods)
    left, *right = figure.subplots(1, 1 + both, sharey=True, squeeze=False)[0]
    _panel(left, [(row, row.accuracy) for row in rows], 100, "{:.1f}", frames_base=True)
    left.set_yticks(range(len(rows)), [row.name for row in rows])
    left.set_xlabel(f"{summary.measure}, %")
    for axes in right:
        _panel(axes, likelihoods, 1, "{:.3f}", frames_base=False)
        axes.set_xlabel("log-likelihood of the reference, nats per token")
    for axes in (left, *right):
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", color="#e3e5e8", lw=0.6)
        axes.set_axisbelow(True)
    figure.suptitle(
        f"{summary.task}, {summary.examples} examples; bars are 95 % intervals, dotted: mean seed",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    return figure


def _panel(
    axes: Axes,
    bars: list[tuple[Row, Interval | None]],
    factor: int,
    number_format: str,
    *,
    frames_base: bool,
) -> None:
    """One measure of every row, its value written at the right edge."""
    shown = [bar for row, bar in bars if bar and (frames_base or row.kind != "base")]
    low, high = factor * min(b.low for b in shown), factor * max(b.high for b in shown)
    margin = 0.05 * (high - low) or 0.01
    axes.set_xlim(low - margin, high + margin)
    for place, (row, bar) in enumerate(bars):
        if bar is None:
            continue
        colour, value = COLOURS[row.kind], factor * bar.value
        if row.kind == "mean seed":
            axes.axvline(value, color=colour, lw=0.8, ls=":")
        if low <= value <= high:
            axes.plot([factor * bar.low, factor * bar.high], [place, place], color=colour, lw=2)
            axes.plot([value], [place], "o", color=colour, ms=6)
            text = number_format.format(value)
        else:
            text = f"off the axis: {number_format.format(value)}"
        at_edge = axes.get_yaxis_transform()
        axes.text(1.01, place, text, transform=at_edge, va="center", fontsize=9, color=LABEL)
    clean(axes)


def clean(axes: Axes) -> None:
    """Without the lines above and to the right."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

"""The rows of the table with their intervals, as forest plots."""

from lorafuse_jax.evaluation.statistics import Interval
from lorafuse_jax.evaluation.summary import Row, Summary
from lorafuse_jax.report.drawing import Bar, bars
from lorafuse_jax.report.markup import Html, figure, join

OWN = (
    "Lines are 95 % intervals of each model alone; dotted: the mean seed. Models share their "
    "examples, so that they can differ reliably where these lines overlap: see the gains."
)
PAIRED = (
    "Paired differences, example by example. Lines are 95 % intervals over examples and seeds; "
    "dotted: no difference."
)


def intervals(summary: Summary) -> Html:
    """Accuracy of every row, and the gains in accuracy and log-likelihood of those tested."""
    mean = summary.row("mean seed").accuracy.value
    drawn = [
        figure(
            f"Accuracy on {summary.task}, per cent",
            _bars([(row, row.accuracy) for row in summary.rows], 100, 1, signed=False, line=mean),
            note=OWN,
        )
    ]
    accuracy = [(r, r.accuracy_gain.difference) for r in summary.rows if r.accuracy_gain]
    likelihood = [(r, r.likelihood_gain.difference) for r in summary.rows if r.likelihood_gain]
    for title, rows, factor, digits in (
        ("Gain in accuracy over the mean seed, points", accuracy, 100, 1),
        ("Gain in log-likelihood over the mean seed, nats a token", likelihood, 1, 3),
    ):
        if rows:
            plot = _bars(rows, factor, digits, signed=True, line=0.0)
            drawn.append(figure(title, plot, note=PAIRED))
    return join(drawn)


def _bars(
    rows: list[tuple[Row, Interval]], factor: int, digits: int, *, signed: bool, line: float
) -> Html:
    sign = "+" if signed else ""
    texts = [
        f"{factor * one.value:{sign}.{digits}f} "
        f"[{factor * one.low:{sign}.{digits}f}, {factor * one.high:{sign}.{digits}f}]"
        for _, one in rows
    ]
    drawn = [
        Bar(row.name, row.kind, factor * one.value, factor * one.low, factor * one.high, text)
        for (row, one), text in zip(rows, texts, strict=True)
    ]
    words = "; ".join(f"{bar.name} {bar.text}" for bar in drawn)
    return bars(drawn, words, line=factor * line, form=lambda x: f"{x:{sign if x else ''}g}")

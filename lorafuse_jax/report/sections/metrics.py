"""Every metric of a benchmark for every model."""

from lorafuse_jax.evaluation.summary import MetricLine, Summary
from lorafuse_jax.report.markup import Cell, Html, Row, table
from lorafuse_jax.report.table import SIGNIFICANT, format_p, gain_cell, percent


def metrics(summary: Summary) -> Html:
    """The table by each of them; nothing where there is but one."""
    if len(summary.metrics) < 2:
        return Html("")
    names = list(summary.metrics)
    lines = zip(*summary.metrics.values(), strict=True)
    rows = [
        Row(
            [one[0].name, *(cell for line in one for cell in _cells(line))],
            one[0].kind.replace(" ", "-"),
        )
        for one in lines
    ]
    return table(
        f"Every metric on {summary.task}",
        ["model", *(("% [95 %]", "gain [95 %]", "p") * len(names))],
        rows,
        groups=[("", 1), *((name, 3) for name in names)],
        note=f"Models are compared by {summary.metric}, which was decided on before; the others "
        "show how far the result depends on how answers are read. p is corrected (Holm) within "
        "each metric.",
    )


def _cells(line: MetricLine) -> tuple[Cell | str, ...]:
    gain = gain_cell(line.gain, line.p_value, 100, 1, 0)
    marked = line.p_value is not None and line.p_value < SIGNIFICANT
    return percent(line.value), Cell(gain, "sure" if marked else ""), format_p(line.p_value)

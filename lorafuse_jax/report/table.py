"""One table a task, for the terminal, for Markdown and for HTML, from the same cells."""

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from lorafuse_jax.evaluation.grouped_gain import GroupedGain
from lorafuse_jax.evaluation.seed_groups import GroupedSummary
from lorafuse_jax.evaluation.statistics import Comparison, Interval
from lorafuse_jax.evaluation.summary import ACCURACY as ACCURACY_NAME
from lorafuse_jax.evaluation.summary import Row, RowKind, Summary
from lorafuse_jax.report.markup import Cell, Html
from lorafuse_jax.report.markup import Row as HtmlRow
from lorafuse_jax.report.markup import table as html
from lorafuse_jax.report.text_table import escaped, markdown_rows

HEADINGS = (
    "model",
    "accuracy % [95 %]",
    "gain, points [95 %]",
    "p",
    "log-lik. / token",
    "gain [95 %]",
    "p",
)
SHORT_HEADINGS = ("model", "% [95 %]", "gain [95 %]", "p", "nats a token", "gain [95 %]", "p")
"""Of the same columns, under the names of the measures."""
ACCURACY, LIKELIHOOD = 1, 4
STYLES: dict[RowKind, str] = {"base": "dim", "mean seed": "italic", "union": "dim"}
SIGNIFICANT = 0.05


def caption(summary: Summary) -> str:
    """What the columns mean, and what this test could have seen."""
    return (
        f"{summary.task}, {summary.examples} examples. Gains are against the mean seed, with "
        "intervals over examples and seeds; p is a paired sign-flip test over examples, corrected "
        "(Holm) for the rows tested; * is p below 0.05, a finding about these seeds unless the "
        "interval excludes zero too. Log-likelihood is of the reference answer, in nats. Bold is "
        f"the best of a column, which luck may have chosen. {power(summary)}"
    )


def power(summary: Summary) -> str:
    """What the test of accuracy could have seen, as a sentence."""
    if summary.detectable is None:
        return (
            f"{summary.examples} examples are too few to find any difference in {summary.measure}."
        )
    points = 100 * summary.detectable
    return (
        f"A single test of {summary.examples} examples finds a true difference in "
        f"{summary.measure} of {points:{'.0f' if points >= 1 else '.1g'}} points with "
        "probability 0.8."
    )


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table as text."""
    return (
        row.name,
        percent(row.accuracy),
        gain_cell(row.accuracy_gain, row.accuracy_p, 100, 1, 0),
        format_p(row.accuracy_p),
        "" if row.log_likelihood is None else f"{row.log_likelihood.value:.3f}",
        gain_cell(row.likelihood_gain, row.likelihood_p, 1, 3, 3),
        format_p(row.likelihood_p),
    )


def best_cells(summary: Summary) -> set[tuple[str, int]]:
    """(row name, column) of the highest accuracy and log-likelihood of what could be used.

    None where all are equal.
    """
    usable = [row for row in summary.rows if row.kind not in ("mean seed", "best seed", "union")]
    accuracies = [(row.accuracy.value, row.name) for row in usable]
    likelihoods = [(row.log_likelihood.value, row.name) for row in usable if row.log_likelihood]
    return {
        (name, column)
        for column, values in ((ACCURACY, accuracies), (LIKELIHOOD, likelihoods))
        for value, name in values
        if value == max(values)[0] > min(values)[0]
    }


def terminal_table(summary: Summary) -> Table:
    """For a terminal of 80 columns or more; some of the log-likelihood columns are on the page."""
    table = Table(title=summary.task, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for heading in (f"{summary.measure} %", "gain, points", "p", "log-lik.", "gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    best = best_cells(summary)
    for row in summary.rows:
        *short, likelihood_gain, _ = cells(row)
        short.append(likelihood_gain.partition(" ")[0])
        texts = [
            Text(cell, style="bold" if (row.name, column) in best else "")
            for column, cell in enumerate(short)
        ]
        table.add_row(*texts, style=STYLES.get(row.kind), end_section=_ends_section(row))
    return table


def groups_terminal_table(summary: GroupedSummary) -> Table:
    """Several groups of seeds together; each group's own accuracy is on the page."""
    title = f"{summary.task}, {len(summary.groups)} groups of seeds"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for heading in ("accuracy %", "gain, points", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summary.rows:
        p = None if row.gain is None else row.gain.corrected_p
        gain = gain_cell(row.gain, p, 100, 1, 1)
        shown = (row.name, percent(row.accuracy), gain, format_p(p))
        table.add_row(*map(Text, shown), style=STYLES.get(row.kind))
    return table


def markdown_table(summary: Summary) -> str:
    """For a README."""
    best = best_cells(summary)
    rows = []
    for row in summary.rows:
        plain = map(escaped, cells(row))
        rows.append(
            [
                f"**{cell}**" if (row.name, column) in best else cell
                for column, cell in enumerate(plain)
            ]
        )
    headings = [heading.replace(ACCURACY_NAME, summary.measure) for heading in HEADINGS]
    return f"{markdown_rows(headings, rows)}\n\n{escaped(caption(summary))}\n"


def html_table(summary: Summary) -> Html:
    """For the page; without the columns of log-likelihood where nothing of the kind was asked."""
    best = best_cells(summary)
    likely = any(row.log_likelihood for row in summary.rows)
    columns = len(HEADINGS) if likely else LIKELIHOOD
    rows = [
        HtmlRow(
            [
                Cell(cell, "best" if (row.name, column) in best else "")
                for column, cell in enumerate(cells(row)[:columns])
            ],
            row.kind.replace(" ", "-"),
        )
        for row in summary.rows
    ]
    groups = [("", 1), (summary.measure, 3), ("log-likelihood of the reference", 3)]
    return html(
        f"Every model on {summary.task}",
        SHORT_HEADINGS[:columns],
        rows,
        groups=groups if likely else groups[:2],
        note=caption(summary),
    )


def format_p(p: float | None) -> str:
    """Three digits; nothing where nothing was tested."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _ends_section(row: Row) -> bool:
    return row.kind in ("base", "best seed", "vote")


def percent(interval: Interval) -> str:
    """A share with its interval, per cent."""
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:.1f} [{low:.0f}, {high:.0f}]"


def gain_cell(
    comparison: Comparison | GroupedGain | None,
    p: float | None,
    factor: int,
    digits: int,
    bound_digits: int,
) -> str:
    """A difference with its interval, marked where p is small; nothing where nothing was tested."""
    if comparison is None or p is None:
        return ""
    d = comparison.difference
    low, high = (f"{factor * x:+.{bound_digits}f}" for x in (d.low, d.high))
    mark = "*" if p < SIGNIFICANT else ""
    return f"{factor * d.value:+.{digits}f}{mark} [{low}, {high}]"

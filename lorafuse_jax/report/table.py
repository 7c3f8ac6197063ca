"""One table a task, for the terminal, for Markdown and for HTML, from the same cells."""

from html import escape

from rich.box import SIMPLE
from rich.table import Table

from lorafuse_jax.evaluation.statistics import Comparison, Interval
from lorafuse_jax.evaluation.summary import Row, RowKind, Summary

HEADINGS = (
    "model",
    "accuracy % [95 %]",
    "gain, points [95 %]",
    "p",
    "log-lik. / token",
    "gain [95 %]",
    "p",
)
STYLES: dict[RowKind, str] = {"base": "dim", "mean seed": "bold", "union": "dim"}


def caption(summary: Summary) -> str:
    """What the columns mean, and what this test could have seen."""
    return (
        f"{summary.task}, {summary.examples} examples. Gains are against the mean seed, with "
        "intervals over examples and seeds; p is a paired sign-flip test over examples, corrected "
        "(Holm) for the rows tested. Log-likelihood is of the reference answer, in nats. "
        f"Accuracy differences below {100 * summary.detectable:.0f} points would mostly have gone "
        "unseen (power 0.8)."
    )


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table as text."""
    return (
        row.name,
        _percent(row.accuracy),
        _gain(row.accuracy_gain, 100, 1, 0),
        _p(row.accuracy_p),
        "" if row.log_likelihood is None else f"{row.log_likelihood.value:.3f}",
        _gain(row.likelihood_gain, 1, 3, 3),
        _p(row.likelihood_p),
    )


def terminal_table(summary: Summary) -> Table:
    """For a terminal of 80 columns or more; the intervals of likelihoods are left to the page."""
    table = Table(title=summary.task, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("model", min_width=21)
    for heading in ("accuracy %", "gain, points", "p", "log-lik.", "gain", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summary.rows:
        *short, likelihood_gain, likelihood_p = cells(row)
        short += [likelihood_gain.partition(" ")[0], likelihood_p]
        table.add_row(*short, style=STYLES.get(row.kind), end_section=_ends_section(row))
    return table


def markdown_table(summary: Summary) -> str:
    """For a README."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "| --- |" + " ---: |" * (len(HEADINGS) - 1)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in summary.rows]
    return "\n".join(lines) + f"\n\n{caption(summary)}\n"


def html_table(summary: Summary) -> str:
    """For the page."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    body = "".join(
        f'<tr class="{row.kind.replace(" ", "-")}">'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells(row))
        + "</tr>"
        for row in summary.rows
    )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f'<p class="caption">{escape(caption(summary))}</p>'
    )


def verdict(summary: Summary) -> str:
    """The result in words, as strong as the numbers and no stronger."""
    sentences = []
    for row in summary.rows:
        if row.accuracy_gain is None:
            continue
        words = f"{row.name}: {_words(row.accuracy_gain, row.accuracy_p, 100, 1, 'points')}"
        if row.likelihood_gain is not None:
            words += "; log-likelihood "
            words += _words(row.likelihood_gain, row.likelihood_p, 1, 3, "nats a token")
        sentences.append(words + ".")
    return "\n".join(sentences)


def _words(gain: Comparison, p: float | None, factor: int, digits: int, unit: str) -> str:
    d = gain.difference
    numbers = (
        f"{factor * d.value:+.{digits}f} {unit} "
        f"[{factor * d.low:+.{digits}f}, {factor * d.high:+.{digits}f}], p {_p(p)}"
    )
    if p is not None and p < 0.05:
        return f"{'better' if d.value > 0 else 'worse'} than the mean seed by {numbers}"
    return f"not told apart from the mean seed ({numbers})"


def _ends_section(row: Row) -> bool:
    return row.kind in ("base", "best seed", "vote")


def _percent(interval: Interval) -> str:
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:.1f} [{low:.0f}, {high:.0f}]"


def _gain(comparison: Comparison | None, factor: int, digits: int, bound_digits: int) -> str:
    if comparison is None:
        return ""
    d = comparison.difference
    low, high = (f"{factor * x:+.{bound_digits}f}" for x in (d.low, d.high))
    return f"{factor * d.value:+.{digits}f} [{low}, {high}]"


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"

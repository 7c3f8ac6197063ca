"""What more seeds bring: their union, their vote, and the fusion of their subsets."""

from lorafuse_jax.report.markup import Html, Row, table
from lorafuse_jax.report.sections.result import Result
from lorafuse_jax.report.subsets import CAPTION, HEADINGS, TITLE, size_cells


def seed_counts(result: Result) -> Html:
    """The table; nothing for a single seed."""
    if not result.by_size:
        return Html("")
    rows = [Row(cells) for cells in size_cells(result.by_size)]
    caption = f"{TITLE} on {result.summary.task}"
    return table(caption, HEADINGS, rows, note=CAPTION)

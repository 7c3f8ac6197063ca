"""Tables as Markdown and for the terminal: a first column of names, numbers beside it."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

Rows = Sequence[Sequence[str]]


def markdown_rows(headings: Sequence[str], rows: Rows) -> str:
    """Lines of a Markdown table; cells are Markdown, see ``escaped``."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))


def escaped(text: str) -> str:
    """Text whose signs are not Markdown's: a bare ``*`` or ``|`` would be."""
    return text.replace("*", "\\*").replace("|", "\\|")


def numbers_table(title: str, headings: Sequence[str], rows: Rows) -> Table:
    """For the terminal; names are folded where it is narrow, numbers stay whole."""
    table = Table(
        box=SIMPLE, title=title, title_justify="left", title_style="bold", padding=(0, 1, 0, 0)
    )
    for number, heading in enumerate(headings):
        table.add_column(
            heading, justify="right" if number else "left", no_wrap=number > 0, overflow="fold"
        )
    for row in rows:
        table.add_row(*row)
    return table

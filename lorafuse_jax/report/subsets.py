"""Accuracy by how many seeds were fused, as a table."""

from collections.abc import Sequence
from html import escape

from rich.box import SIMPLE
from rich.table import Table

from lorafuse_jax.evaluation.subsets import SizeAccuracy

TITLE = "By number of seeds"
HEADINGS = ("operator", "seeds", "subsets", "accuracy %", "lowest", "highest", "gain", "log-lik.")
CAPTION = (
    "Means over the fused models of all subsets of so many seeds, or of those drawn; lowest and "
    "highest are single subsets. The gain is in points over the mean seed, ± its standard error "
    "over examples. Subsets share seeds, and none of these rows is tested."
)


def subset_table(lines: Sequence[SizeAccuracy]) -> Table:
    """For the terminal."""
    table = Table(title=TITLE, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number else "left")
    for line in lines:
        table.add_row(*_cells(line))
    return table


def subset_markdown(lines: Sequence[SizeAccuracy]) -> str:
    """For table.md."""
    rule = ["---", *["---:"] * (len(HEADINGS) - 1)]
    rows = (HEADINGS, rule, *map(_cells, lines))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{CAPTION}\n"


def subset_html(lines: Sequence[SizeAccuracy]) -> str:
    """For the page."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in HEADINGS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(line))}</tr>" for line in lines
    )
    return (
        f'<h3>{TITLE}</h3><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="caption">{escape(CAPTION)}</p>'
    )


def _cells(line: SizeAccuracy) -> tuple[str, ...]:
    percent = [f"{100 * value:.1f}" for value in (line.mean, line.low, line.high)]
    likelihood = "" if line.log_likelihood is None else f"{line.log_likelihood:.3f}"
    gain = f"{100 * line.gain:+.1f} ± {100 * line.error:.1f}" if line.operator else ""
    return (line.operator or "seeds", str(line.size), str(line.subsets), *percent, gain, likelihood)

"""Accuracy by how many seeds there are, in a terminal and in Markdown."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from lorafuse_jax.evaluation.seed_count import SizeLine
from lorafuse_jax.evaluation.statistics import Interval
from lorafuse_jax.report.text_table import markdown_rows, numbers_table

TITLE = "By number of seeds"
HEADINGS = ("model", "seeds", "subsets", "accuracy % [95 %]", "lowest, highest", "gain [95 %]")
CAPTION = (
    "Means over all subsets of so many seeds, or those drawn; lowest and highest are single "
    "subsets. The gain is in points over the mean of the same seeds. Intervals are over examples, "
    "for these seeds; subsets share seeds, and none of these rows is tested."
)


def size_cells(lines: Sequence[SizeLine]) -> Iterator[tuple[str, ...]]:
    """The rows of the table: seeds, union, intersection, vote, then every operator."""
    whole = ("mean seed", "union", "intersection", "vote")
    for name in whole:
        for line in lines:
            value = getattr(line, name.split()[0])
            if value is not None and (line.seeds > 1 or name == "mean seed"):
                yield (name, str(line.seeds), str(line.subsets), _percent(value), "", "")
            if name == "mean seed":
                break
    operators = dict.fromkeys(operator for line in lines for operator in line.fused)
    for operator in operators:
        for line in lines:
            if one := line.fused.get(operator):
                extremes = f"{100 * one.low:.1f}, {100 * one.high:.1f}"
                counts = (str(line.seeds), str(one.subsets))
                gain = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*_points(one.gain))
                yield (operator, *counts, _percent(one.accuracy), extremes, gain)


def subset_table(lines: Sequence[SizeLine]) -> Table:
    """For the terminal."""
    return numbers_table(TITLE, HEADINGS, list(size_cells(lines)))


def subset_markdown(lines: Sequence[SizeLine]) -> str:
    """For table.md."""
    return f"{markdown_rows(HEADINGS, list(size_cells(lines)))}\n\n{CAPTION}\n"


def _percent(interval: Interval) -> str:
    return "{:.1f} [{:.0f}, {:.0f}]".format(*_points(interval))


def _points(interval: Interval) -> tuple[float, float, float]:
    return 100 * interval.value, 100 * interval.low, 100 * interval.high

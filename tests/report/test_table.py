import re
from dataclasses import replace

import pytest
from rich.console import Console

from lorafuse_jax.evaluation.statistics import Interval
from lorafuse_jax.evaluation.summary import Row, summarize
from lorafuse_jax.report.table import (
    caption,
    cells,
    html_table,
    markdown_table,
    terminal_table,
)
from lorafuse_jax.report.verdict import verdict
from tests.evaluation.given import scores
from tests.report.rows import gain, row_of, summary_of


@pytest.fixture(scope="module")
def summary():
    return summarize(scores(), "seed-2")


def test_cells_round_and_mark_what_is_significant():
    assert cells(row_of("a", gain(0.0512, 0.0149, 0.1), 0.0004)) == (
        "a",
        "50.0 [40, 60]",
        "+5.1* [+1, +10]",
        "<0.001",
        "",
        "",
        "",
    )
    assert cells(row_of("a", gain(-0.05, -0.1, 0.01), 0.05))[2] == "-5.0 [-10, +1]"


def test_terminal_table_fits_eighty_columns_and_loses_nothing(summary):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(summary))
    text = console.export_text()
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    for row in summary.rows:
        name, accuracy, accuracy_gain, p, likelihood, likelihood_gain, _ = cells(row)
        shown = (accuracy, accuracy_gain, p, likelihood, likelihood_gain.partition(" ")[0])
        assert any(all(cell in line for cell in shown) for line in text.splitlines()), name
        assert name.split()[0] in text


def test_terminal_table_shows_brackets_in_names_as_they_are():
    mean = Row("mean of seeds", "mean seed", Interval(0.0, 0.0, 0.0), Interval(0.0, 0.0, 0.0))
    seed = Row("[red]x[/red]", "seed", Interval(0.0, 0.0, 0.0), Interval(0.0, 0.0, 0.0))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(summary_of(seed, mean)))
    assert "[red]x[/red]" in console.export_text()


def test_every_table_has_every_cell_and_marks_the_best(summary):
    markdown, html = markdown_table(summary), html_table(summary).replace("<wbr>", "")
    for row in summary.rows:
        for cell in filter(None, cells(row)):
            assert cell.replace("*", "\\*") in markdown
            assert cell.replace("<", "&lt;") in html
    assert re.findall(r"\*\*(.+?)\*\*", markdown) == ["100.0 [72, 100]", "1.500"]
    assert re.findall(r'class="best">(.+?)<', html) == ["100.0 [72, 100]", "1.500"]
    widths = {line.count("|") for line in markdown.splitlines() if line.startswith("|")}
    assert widths == {8}


def test_caption_states_size_and_what_could_be_found():
    text = caption(summary_of(row_of("a", gain(0, -1, 1), 0.5)))
    assert "200 examples" in text and "accuracy of 5 points with probability 0.8" in text


def test_models_that_are_all_alike_are_not_bold_and_promise_no_power():
    alike = Interval(0.0, 0.0, 0.2)
    seed = Row("seed-1", "seed", alike, alike)
    fused = Row("a", "fused", alike, alike, accuracy_gain=gain(0, 0, 0), accuracy_p=1.0)
    summary = replace(summary_of(seed, fused), detectable=None)
    assert "**" not in markdown_table(summary) and 'class="best"' not in html_table(summary)
    assert all("0 points with" not in text for text in (caption(summary), *verdict(summary)))
    assert "too few to find any difference" in caption(summary)

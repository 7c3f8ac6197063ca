"""The page of several runs: one recipe, other seeds in each."""

from collections.abc import Sequence
from dataclasses import dataclass

from lorafuse_jax.evaluation.seed_groups import GroupedSummary
from lorafuse_jax.report.markup import Cell, Html, Row, bullets, join, link, section, table, tag
from lorafuse_jax.report.page import Part, html_document
from lorafuse_jax.report.sections.intervals import intervals
from lorafuse_jax.report.sections.rerun import Rerun, rerun
from lorafuse_jax.report.sections.result import Result
from lorafuse_jax.report.sections.seed_groups import groups_figure, groups_table, groups_verdict
from lorafuse_jax.report.table import html_table
from lorafuse_jax.report.verdict import headline

CAVEATS = (
    "A group is a run: its seeds were trained and fused by themselves. Only several groups show "
    "how a fused adapter would come out with other seeds.",
    "With two or three groups, intervals over groups are wide, as they should be: so few groups "
    "say little of others.",
    "Each run has a page of its own, report.html in its folder, with examples and cost.",
)


@dataclass(frozen=True, kw_only=True)
class GroupReport:
    """One run among several.

    Attributes:
        name: of the run.
        results: one a benchmark.
        rerun: what it was made by.
    """

    name: str
    results: Sequence[Result]
    rerun: Rerun


def groups_page(summaries: Sequence[GroupedSummary], runs: Sequence[GroupReport]) -> str:
    """The whole page as text.

    Args:
        summaries: of the benchmarks that all runs have.
        runs: each by itself.
    """
    parts = [_verdicts(summaries)]
    for number, summary in enumerate(summaries, start=1):
        content = join([groups_table(summary), groups_figure(summary)])
        parts.append(Part(f"task-{number}", summary.task, content))
    parts += [_run(number, run) for number, run in enumerate(runs, start=1)]
    parts.append(Part("reading", "How to read this", bullets(CAVEATS)))
    parts.append(Part("again", "To run it again", join(map(_again, runs))))
    names = ", ".join(run.name for run in runs)
    return html_document(f"{len(runs)} groups of seeds", names, parts)


def _verdicts(summaries: Sequence[GroupedSummary]) -> Part:
    boxes = [
        join([tag("h3", link(f"task-{number}", summary.task)), groups_verdict(summary)])
        for number, summary in enumerate(summaries, start=1)
    ]
    return Part("verdict", "In short", join(boxes))


def _run(number: int, run: GroupReport) -> Part:
    inner, under = [_in_short(run)], []
    for task, result in enumerate(run.results, start=1):
        id, title = f"run-{number}-task-{task}", result.summary.task
        under.append((id, title))
        shown = join([html_table(result.summary), intervals(result.summary)])
        inner.append(section(id, title, shown, level=3))
    return Part(f"run-{number}", run.name, join(inner), under)


def _in_short(run: GroupReport) -> Html:
    rows = [
        Row([result.summary.task, Cell(headline(result.summary), "text")]) for result in run.results
    ]
    return table(f"{run.name} alone", ["benchmark", "finding"], rows)


def _again(run: GroupReport) -> Html:
    return join([tag("h3", run.name), rerun(run.rerun, level=4)])

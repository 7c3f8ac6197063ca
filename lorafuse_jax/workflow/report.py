"""``lorafuse report``: tables on the terminal and in Markdown, figures, and pages."""

import json
from collections.abc import Sequence
from typing import Any

from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.seed_groups import GroupedSummary, summarize_groups
from lorafuse_jax.evaluation.subsets import accuracy_by_size, operators_of
from lorafuse_jax.evaluation.summary import Summary, summarize
from lorafuse_jax.report.figure import results_figure
from lorafuse_jax.report.groups_page import GroupReport, groups_page
from lorafuse_jax.report.markup import Html
from lorafuse_jax.report.page import RunReport, report_page
from lorafuse_jax.report.sections.landscape import landscape
from lorafuse_jax.report.sections.result import Result
from lorafuse_jax.report.sections.seed_groups import markdown as groups_markdown
from lorafuse_jax.report.subsets import CAPTION, TITLE, subset_markdown, subset_table
from lorafuse_jax.report.table import caption, groups_terminal_table, markdown_table, terminal_table
from lorafuse_jax.run_folder import RunFolder, write_atomically
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.benchmarks import benchmark_of
from lorafuse_jax.workflow.compared_subsets import fused_of_each
from lorafuse_jax.workflow.evaluate import archives_of
from lorafuse_jax.workflow.layer_diagnostics import layer_diagnostics
from lorafuse_jax.workflow.members import best_seed
from lorafuse_jax.workflow.programs import with_programs
from lorafuse_jax.workflow.progress import console, print_table
from lorafuse_jax.workflow.rerun import evaluate_command, rerun_of
from lorafuse_jax.workflow.run_lock import locked


def report(run: RunFolder) -> list[Summary]:
    """Show and write what the answers of a run are worth.

    Raises:
        UserError: there are none, or not all models have answered to a benchmark; after all that
            is whole was shown and written.
    """
    results, problems = [], []
    for archive in archives_of(run):
        try:
            results.append(_result(run, archive))
        except UserError as problem:
            problems.append(str(problem))
    if problems and not results:
        raise UserError("\n".join(problems))
    summaries = [result.summary for result in results]
    for result in results:
        summary = result.summary
        print_table(terminal_table(summary))
        console.print(caption(summary), style="dim", soft_wrap=False)
        if _fused_subsets(result):
            print_table(subset_table(result.by_size))
            console.print(CAPTION, style="dim", soft_wrap=False)
    _write(run, results)
    if problems:
        raise UserError("\n".join(problems))
    return summaries


def report_groups(runs: Sequence[RunFolder]) -> list[GroupedSummary]:
    """Every run by itself, and all together as groups of seeds, into the first one's folder.

    Raises:
        UserError: as for ``report``; a run is named twice, the runs have no benchmark in common,
            or were not asked the same; before anything is written.
    """
    names = _names(runs)
    results = [results_of(run) for run in runs]
    shared = [
        result.summary.task
        for result in results[0]
        if all(result.summary.task in _tasks(other) for other in results)
    ]
    if not shared:
        listed = "; ".join(
            f"{name}: {', '.join(_tasks(own))}" for name, own in zip(names, results, strict=True)
        )
        raise UserError(f"the runs have no benchmark in common ({listed}); evaluate them alike")
    summaries = []
    for task in shared:
        own = [next(r for r in some if r.summary.task == task) for some in results]
        bests = [result.summary.best_seed for result in own]
        summaries.append(summarize_groups([r.scores for r in own], bests, names))
    for summary in summaries:
        print_table(groups_terminal_table(summary))
    for run, own in zip(runs, results, strict=True):
        _write(run, own)
    reports = [
        GroupReport(name=name, results=own, rerun=rerun_of(run, archives_of(run)))
        for name, own, run in zip(names, results, runs, strict=True)
    ]
    folder = runs[0].path
    text = "\n".join(f"## {s.task}\n\n{groups_markdown(s)}" for s in summaries)
    write_atomically(folder / "groups.md", text)
    write_atomically(folder / "groups.html", groups_page(summaries, reports))
    console.print(f"wrote {folder / 'groups.html'} and {folder / 'groups.md'}")
    return summaries


def results_of(run: RunFolder) -> list[Result]:
    """Every benchmark of a run, scored where it is not yet.

    Raises:
        UserError: nothing was evaluated, or not all models have answered.
    """
    return [_result(run, archive) for archive in archives_of(run)]


def _result(run: RunFolder, archive: Archive) -> Result:
    benchmark, label = benchmark_of(archive.asked()), archive.asked()["label"]
    if archive.due(benchmark):
        with locked(run.path):
            archive.score(with_programs(benchmark, unsafe=False))
    answers = archive.answers()
    fused = {one.model for one in answers.values() if one.kind == "fused"}
    if gone := fused - set(run.fused_names()):
        names = ", ".join(sorted(gone))
        console.print(f"{label}: left out, being no longer in {run.path / 'fused'}: {names}")
    try:
        scores = archive.scores(without=gone)
    except UserError as problem:
        raise UserError(f"{problem}:\n  {evaluate_command(archive, run.path)}") from None
    return Result(
        summary=summarize(scores, f"seed-{best_seed(run)}"),
        scores=scores,
        questions={question.id: question for question in archive.questions()},
        answers=answers,
        by_size=accuracy_by_size(scores, fused_of_each(run, operators_of(scores))),
    )


def _write(run: RunFolder, results: Sequence[Result]) -> None:
    """``table.md``, a figure a benchmark, and ``report.html``."""
    config, summaries = run.config(), [result.summary for result in results]
    for summary in summaries:
        file = run.path / f"{summary.task.replace('/', '-')}.png"
        results_figure(summary).savefig(file, dpi=110)
    text = "\n".join(map(_markdown, results))
    write_atomically(run.path / "table.md", text)
    page = report_page(
        RunReport(
            title=f"Fusing {len(config['seeds'])} seeds: {run.path.resolve().name}",
            lead=_lead(config),
            results=results,
            metrics=run.metrics(),
            costs=run.costs(),
            diagnostics=layer_diagnostics(run),
            rerun=rerun_of(run, archives_of(run)),
            more=_landscape(run),
        )
    )
    write_atomically(run.path / "report.html", page)
    console.print(f"wrote {run.path / 'report.html'} and {run.path / 'table.md'}")


def _markdown(result: Result) -> str:
    text = f"## {result.summary.task}\n\n{markdown_table(result.summary)}"
    if not _fused_subsets(result):
        return text
    return f"{text}\n### {TITLE}\n\n{subset_markdown(result.by_size)}"


def _fused_subsets(result: Result) -> bool:
    return any(line.fused for line in result.by_size)


def _landscape(run: RunFolder) -> list[tuple[str, str, Html]]:
    """The part on the loss among the seeds, where that was measured."""
    file = run.path / "landscape" / "landscape.json"
    if not file.exists():
        return []
    return [("landscape", "The loss among the seeds", landscape(json.loads(file.read_text())))]


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """The folders' own names where they differ, else their paths."""
    paths = [run.path.resolve() for run in runs]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path} is named twice; a group of seeds counts once")
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else list(map(str, paths))


def _tasks(results: Sequence[Result]) -> list[str]:
    return [result.summary.task for result in results]


def _lead(config: dict[str, Any]) -> str:
    """What was trained, in a line."""
    seeds = ", ".join(map(str, config["seeds"]))
    rank = f", rank {_listed(config['rank'])}" if config["method"] in ("lora", "dora") else ""
    amount = f"{config['examples']} examples each" if config["examples"] else "one epoch"
    model, data = (config[key].rstrip("/").rpartition("/")[2] for key in ("model", "data"))
    return f"{model} on {data}, {amount}; {config['method']}{rank}; seeds {seeds}."


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

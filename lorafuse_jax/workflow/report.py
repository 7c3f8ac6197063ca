"""``lorafuse report``: the table on the terminal, table.md, a figure a task, and report.html."""

from typing import Any

from lorafuse_jax.evaluation.summary import Summary, summarize
from lorafuse_jax.report.figure import results_figure
from lorafuse_jax.report.page import RunReport, report_page
from lorafuse_jax.report.sections.result import Result
from lorafuse_jax.report.table import caption, markdown_table, terminal_table
from lorafuse_jax.run_folder import RunFolder, write_atomically
from lorafuse_jax.workflow.benchmarks import benchmark_of
from lorafuse_jax.workflow.evaluate import archives_of
from lorafuse_jax.workflow.fuse import best_seed
from lorafuse_jax.workflow.layer_diagnostics import layer_diagnostics
from lorafuse_jax.workflow.progress import console
from lorafuse_jax.workflow.rerun import rerun_of


def report(run: RunFolder) -> list[Summary]:
    """Show and write what the answers of a run are worth.

    Raises:
        UserError: there are none, or not all models have answered.
    """
    config, archives, results = run.config(), archives_of(run), results_of(run)
    summaries = [result.summary for result in results]
    for summary in summaries:
        console.print(terminal_table(summary))
        console.print(caption(summary), style="dim", soft_wrap=False)
        file = run.path / f"{summary.task.replace('/', '-')}.png"
        results_figure(summary).savefig(file, dpi=110)
    text = "\n".join(f"## {s.task}\n\n{markdown_table(s)}" for s in summaries)
    write_atomically(run.path / "table.md", text)
    page = report_page(
        RunReport(
            title=f"Fusing {len(config['seeds'])} seeds: {run.path.resolve().name}",
            lead=_lead(config),
            results=results,
            metrics=run.metrics(),
            costs=run.costs(),
            diagnostics=layer_diagnostics(run),
            rerun=rerun_of(run, archives),
        )
    )
    write_atomically(run.path / "report.html", page)
    console.print(f"wrote {run.path / 'report.html'} and {run.path / 'table.md'}")
    return summaries


def results_of(run: RunFolder) -> list[Result]:
    """Every benchmark of a run, scored where it is not yet.

    Raises:
        UserError: nothing was evaluated, or not all models have answered.
    """
    best = f"seed-{best_seed(run)}"
    results = []
    for archive in archives_of(run):
        archive.score(benchmark_of(archive.asked()))
        scores = archive.scores()
        results.append(
            Result(
                summary=summarize(scores, best),
                scores=scores,
                questions={question.id: question for question in archive.questions()},
                answers=archive.answers(),
            )
        )
    return results


def _lead(config: dict[str, Any]) -> str:
    """What was trained, in a line."""
    seeds = ", ".join(map(str, config["seeds"]))
    rank = f", rank {_listed(config['rank'])}" if config["method"] in ("lora", "dora") else ""
    amount = f"{config['examples']} examples each" if config["examples"] else "one epoch"
    model, data = (config[key].rstrip("/").rpartition("/")[2] for key in ("model", "data"))
    return f"{model} on {data}, {amount}; {config['method']}{rank}; seeds {seeds}."


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

"""``lorafuse report``: the table on the terminal, table.md, a figure a task, and report.html."""

from lorafuse_jax.evaluation.subsets import accuracy_by_size, operators_of
from lorafuse_jax.evaluation.summary import Summary, summarize
from lorafuse_jax.report.figure import results_figure
from lorafuse_jax.report.page import Result, report_page
from lorafuse_jax.report.subsets import CAPTION, TITLE, subset_markdown, subset_table
from lorafuse_jax.report.table import caption, markdown_table, terminal_table
from lorafuse_jax.run_folder import RunFolder, write_atomically
from lorafuse_jax.workflow.benchmarks import benchmark_of
from lorafuse_jax.workflow.compared_subsets import fused_of_each
from lorafuse_jax.workflow.evaluate import archives_of
from lorafuse_jax.workflow.fuse import best_seed
from lorafuse_jax.workflow.progress import console

SHOWN = (
    "model",
    "data",
    "seeds",
    "rank",
    "alpha",
    "targets",
    "learning_rate",
    "examples",
    "examples_per_step",
    "shared",
    "model_fingerprint",
    "versions",
)


def report(run: RunFolder) -> list[Summary]:
    """Show and write what the answers of a run are worth.

    Raises:
        UserError: there are none, or not all models have answered.
    """
    config, best = run.config(), f"seed-{best_seed(run)}"
    results = []
    for archive in archives_of(run):
        archive.score(benchmark_of(archive.asked()))
        scores = archive.scores()
        prompts = {question.id: question.prompt for question in archive.questions()}
        by_size = accuracy_by_size(scores, fused_of_each(run, operators_of(scores)))
        summary = summarize(scores, best)
        results.append(Result(summary, scores, archive.answers(), prompts, by_size))
    summaries = [result.summary for result in results]
    for result in results:
        summary = result.summary
        console.print(terminal_table(summary))
        console.print(caption(summary), style="dim", soft_wrap=False)
        if result.by_size:
            console.print(subset_table(result.by_size))
            console.print(CAPTION, style="dim", soft_wrap=False)
        file = run.path / f"{summary.task.replace('/', '-')}.png"
        results_figure(summary).savefig(file, dpi=110)
    text = "\n".join(map(_markdown, results))
    write_atomically(run.path / "table.md", text)
    page = report_page(
        title=f"Fusing {len(config['seeds'])} seeds: {run.path.name}",
        facts={key: config[key] for key in SHOWN},
        results=results,
        metrics=run.metrics(),
    )
    write_atomically(run.path / "report.html", page)
    console.print(f"wrote {run.path / 'report.html'} and {run.path / 'table.md'}")
    return summaries


def _markdown(result: Result) -> str:
    text = f"## {result.summary.task}\n\n{markdown_table(result.summary)}"
    if not result.by_size:
        return text
    return f"{text}\n### {TITLE}\n\n{subset_markdown(result.by_size)}"

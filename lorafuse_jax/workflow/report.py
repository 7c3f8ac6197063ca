"""``lorafuse report``: the table on the terminal, table.md, a figure a task, and report.html."""

from lorafuse_jax.evaluation.predictions import read, scores_by_task
from lorafuse_jax.evaluation.summary import Summary, summarize
from lorafuse_jax.report.figure import results_figure
from lorafuse_jax.report.page import report_page
from lorafuse_jax.report.table import caption, markdown_table, terminal_table
from lorafuse_jax.run_folder import RunFolder, write_atomically
from lorafuse_jax.types import UserError
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
    """Show and write what the predictions of a run say.

    Raises:
        UserError: there are none, or not all models have answered.
    """
    config, predictions = run.config(), read(run.predictions_path)
    if not predictions:
        raise UserError(f"{run.path} has no predictions yet; lorafuse evaluate makes them")
    best = f"seed-{best_seed(run)}"
    summaries = [summarize(scores, best) for scores in scores_by_task(predictions)]
    for summary in summaries:
        console.print(terminal_table(summary))
        console.print(caption(summary), style="dim", soft_wrap=False)
        file = run.path / f"{summary.task.replace('/', '-')}.png"
        results_figure(summary).savefig(file, dpi=110)
    text = "\n".join(f"## {s.task}\n\n{markdown_table(s)}" for s in summaries)
    write_atomically(run.path / "table.md", text)
    page = report_page(
        title=f"Fusing {len(config['seeds'])} seeds: {run.path.name}",
        facts={key: config[key] for key in SHOWN},
        summaries=summaries,
        predictions=predictions,
        metrics=run.metrics(),
    )
    write_atomically(run.path / "report.html", page)
    console.print(f"wrote {run.path / 'report.html'} and {run.path / 'table.md'}")
    return summaries

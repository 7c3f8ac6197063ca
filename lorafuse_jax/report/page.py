"""``report.html``: one self-contained page."""

from collections.abc import Sequence
from html import escape

from lorafuse_jax.evaluation.predictions import Prediction
from lorafuse_jax.evaluation.summary import Summary
from lorafuse_jax.report.figure import loss_figure, results_figure, svg
from lorafuse_jax.report.table import html_table, verdict

SHOWN_EXAMPLES = 5

STYLE = """
:root { --ink: #1c2026; --soft: #667; --line: #dde0e5; --paper: #fff; --mark: #f4f6f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --soft: #9aa0aa; --line: #333a44; --paper: #14171c; --mark: #1d222a; }
  svg { background: #fff; border-radius: 6px; }
}
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1060px; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem } h2 { margin: 2.4rem 0 .6rem; font-size: 1.2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%;
  font-size: 14px }
th { text-align: right; color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--line) }
th, td { padding: .28rem .55rem; white-space: nowrap } td { text-align: right }
th:first-child, td:first-child { text-align: left; white-space: normal }
tr.base td, tr.union td { color: var(--soft) } tr.mean-seed td { font-weight: 600 }
tr.best-seed td, tr.vote td, tr.base td { border-bottom: 1px solid var(--line) }
.caption, .soft { color: var(--soft); font-size: 13px } svg { max-width: 100%; height: auto }
details { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .8rem; margin: .6rem 0 }
pre { white-space: pre-wrap; margin: .2rem 0; font-size: 13px } .verdict { background: var(--mark);
  border-left: 3px solid #d9622b; padding: .6rem .9rem; white-space: pre-line }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: 13px }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
.right::before { content: "\\2713 "; color: #2d8a4e }
.wrong::before { content: "\\2717 "; color: #c0392b }
"""


def report_page(
    *,
    title: str,
    facts: dict[str, object],
    summaries: Sequence[Summary],
    predictions: Sequence[Prediction],
    metrics: list[dict],
) -> str:
    """The whole page as text.

    Args:
        title: heading.
        facts: what was run, shown as a list.
        summaries: one a task.
        predictions: for the examples on which models disagree.
        metrics: lines of metrics.jsonl.
    """
    parts = [f"<h1>{escape(title)}</h1>", _facts(facts)]
    for summary in summaries:
        parts.append(f"<h2>{escape(summary.task)}</h2>")
        parts.append(f'<p class="verdict">{escape(verdict(summary))}</p>')
        parts.append(html_table(summary))
        parts.append(svg(results_figure(summary)))
        union, mean = summary.row("union"), summary.row("mean seed")
        parts.append(
            f"<p>Two seeds agree on being right or wrong on {100 * summary.agreement:.0f} % of the "
            f"examples; at least one is right on {100 * union.accuracy.value:.0f} %, the mean seed "
            f"on {100 * mean.accuracy.value:.0f} %.</p>"
        )
        parts.append(_disagreements([p for p in predictions if p.task == summary.task]))
    if metrics:
        parts.append("<h2>Training</h2>" + svg(loss_figure(metrics)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _facts(facts: dict[str, object]) -> str:
    items = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    return f"<dl>{items}</dl>"


def _disagreements(predictions: Sequence[Prediction]) -> str:
    by_id: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if prediction.kind != "base":
            by_id.setdefault(prediction.id, []).append(prediction)
    split = [rows for rows in by_id.values() if len({row.correct for row in rows}) == 2]
    shown = "".join(
        f"<details><summary>{escape(rows[0].id)}: reference {escape(rows[0].reference)}, "
        f"{sum(row.correct for row in rows)} of {len(rows)} right</summary>"
        + "".join(
            f'<p class="{"right" if row.correct else "wrong"}">{escape(row.model)}</p>'
            f"<pre>{escape(row.text.strip())}</pre>"
            for row in rows
        )
        + "</details>"
        for rows in split[:SHOWN_EXAMPLES]
    )
    return (
        f"<p>The models disagree on {len(split)} of {len(by_id)} examples, for instance:</p>{shown}"
    )

"""``report.html``: one self-contained page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lorafuse_jax.evaluation.records import Answer
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.subsets import SizeAccuracy
from lorafuse_jax.evaluation.summary import Summary
from lorafuse_jax.report.examples import disagreements
from lorafuse_jax.report.figure import results_figure, svg
from lorafuse_jax.report.style import STYLE
from lorafuse_jax.report.subsets import subset_html
from lorafuse_jax.report.table import format_p, html_table
from lorafuse_jax.report.training import loss_figure, loss_words
from lorafuse_jax.report.verdict import verdict

CAVEATS = (
    "The p-values are about these seeds and other examples. The intervals of the gains are about "
    "other seeds too, but with two or three seeds they tend to be too narrow.",
    "The bars of the figure are each model's own. Models that share their examples can differ "
    "reliably where their bars overlap: the gains in the table are paired.",
    "The best seed was chosen on validation examples. The best row of a table is chosen on these "
    "very examples, and so flattered.",
    "An answer counts as right if its number equals the reference's: the number after ####, else "
    "the last one. Decoding is greedy.",
)


@dataclass(frozen=True)
class Result:
    """What is known of one task.

    Attributes:
        summary: the rows of its table.
        scores: the matrix that they were made of.
        answers: by example and model.
        prompts: by example.
        by_size: accuracy by how many seeds were fused, where that was asked.
    """

    summary: Summary
    scores: Scores
    answers: Mapping[tuple[str, str], Answer]
    prompts: Mapping[str, str]
    by_size: Sequence[SizeAccuracy] = ()


def report_page(
    *,
    title: str,
    facts: dict[str, object],
    results: Sequence[Result],
    metrics: list[dict],
) -> str:
    """The whole page as text.

    Args:
        title: heading.
        facts: what was run, shown as a list.
        results: one a task.
        metrics: lines of metrics.jsonl.
    """
    parts = [f"<h1>{escape(title)}</h1>", _facts(facts)]
    for result in results:
        summary = result.summary
        parts.append(f"<h2>{escape(summary.task)}</h2>{_verdict(summary)}{html_table(summary)}")
        parts.append(svg(results_figure(summary), f"accuracy and log-likelihood, {summary.task}"))
        if result.by_size:
            parts.append(subset_html(result.by_size))
        parts.append(_complementarity(summary))
        parts.append(disagreements(result.scores, result.answers, result.prompts))
    if metrics:
        parts.append("<h2>Training</h2>" + svg(loss_figure(metrics), loss_words(metrics)))
    caveats = "".join(f"<li>{escape(caveat)}</li>" for caveat in CAVEATS)
    parts.append(f"<h2>How to read this</h2><ul>{caveats}</ul>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _facts(facts: dict[str, object]) -> str:
    items = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    return f"<dl>{items}</dl>"


def _verdict(summary: Summary) -> str:
    paragraphs = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in verdict(summary))
    return f'<div class="verdict">{paragraphs}</div>'


def _complementarity(summary: Summary) -> str:
    """Which problems the seeds, and the fused models, have right beyond one another."""
    union, mean = summary.row("union"), summary.row("mean seed")
    best = summary.best_seed
    body = "".join(
        f"<tr><td>{escape(row.name)}</td><td>{row.against_best.gained}</td>"
        f"<td>{row.against_best.lost}</td><td>{format_p(row.against_best.p_value)}</td>"
        f"<td>{row.newly_solved}</td></tr>"
        for row in summary.rows
        if row.against_best is not None
    )
    heads = (
        "model",
        f"right, {best} wrong",
        f"wrong, {best} right",
        "p",
        "right, every seed wrong",
    )
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in heads)
    return (
        "<h3>Which problems</h3>"
        f"<p>Two seeds agree on being right or wrong on {100 * summary.agreement:.0f} % of the "
        f"examples; at least one is right on {100 * union.accuracy.value:.0f} %, the mean seed "
        f"on {100 * mean.accuracy.value:.0f} %.</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<p class="caption">Numbers of examples. {escape(best)} is the best seed on validation. '
        "p is McNemar's exact test, not corrected.</p>"
    )

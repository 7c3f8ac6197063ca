"""``report.html``: one self-contained page, which loads nothing and reads without scripts."""

from collections.abc import Sequence
from dataclasses import dataclass

from lorafuse_jax.report.markup import Html, bullets, join, link, paragraphs, section, tag
from lorafuse_jax.report.sections.cost import cost
from lorafuse_jax.report.sections.diagnostics import LayerDiagnostics, diagnostics
from lorafuse_jax.report.sections.example_choice import Choice, choose
from lorafuse_jax.report.sections.example_groups import example_groups
from lorafuse_jax.report.sections.examples import TEXT_LENGTH, examples
from lorafuse_jax.report.sections.intervals import intervals
from lorafuse_jax.report.sections.losses import losses
from lorafuse_jax.report.sections.members import against_members
from lorafuse_jax.report.sections.metrics import metrics
from lorafuse_jax.report.sections.overlap import overlap
from lorafuse_jax.report.sections.rerun import Rerun, rerun
from lorafuse_jax.report.sections.result import Result
from lorafuse_jax.report.sections.seed_counts import seed_counts
from lorafuse_jax.report.style import STYLE
from lorafuse_jax.report.subsets import TITLE
from lorafuse_jax.report.table import html_table
from lorafuse_jax.report.verdict import headline, verdict

CAVEATS = (
    "The p-values are about these seeds and other examples. The intervals of the gains are about "
    "other seeds too, but about this fused model: how fusing others would come out, only several "
    "runs show.",
    "The best seed was chosen on validation examples. The best row of a table is chosen on these "
    "very examples, and so flattered.",
    "What counts as right is what the benchmark's scorer says; answers that it could not take in "
    "count as wrong, and the examples show them as what they are.",
)
EXAMPLE_LETTERS = 1_500_000
"""What all answers on the page may take together, at worst."""
MOST_EXAMPLES, FEWEST_EXAMPLES = 20, 3

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
SCRIPT = """
for (const box of document.querySelectorAll(".examples")) {
  const filter = box.querySelector(".filter");
  if (!filter) continue;
  filter.hidden = false;
  filter.addEventListener("change", (event) => {
    const kind = event.target.value;
    for (const one of box.querySelectorAll("details"))
      one.hidden = kind !== "" && !one.dataset.kinds.split(" ").includes(kind);
  });
}
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.tagName !== "DETAILS") return;
  target.hidden = false;
  target.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();
"""


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What is known of a run.

    Attributes:
        title: heading.
        lead: one line of what was run.
        results: one a benchmark.
        metrics: lines of ``metrics.jsonl``.
        costs: lines of ``cost.jsonl``.
        diagnostics: of the adapters, or a sentence why there are none.
        rerun: what it was made by.
        more: further parts, (id, title, content), shown before the cost.
    """

    title: str
    lead: str
    results: Sequence[Result]
    metrics: list[dict]
    costs: list[dict]
    diagnostics: LayerDiagnostics | str
    rerun: Rerun
    more: Sequence[tuple[str, str, Html]] = ()


@dataclass(frozen=True)
class Part:
    """A section of the page, and what the contents list under it."""

    id: str
    title: str
    content: Html
    under: Sequence[tuple[str, str]] = ()


def report_page(run: RunReport) -> str:
    """The whole page as text; the same for the same run."""
    return html_document(run.title, run.lead, _parts(run))


def html_document(title: str, lead: str, parts: Sequence[Part]) -> str:
    """A page of parts, with contents that point to them."""
    body = tag(
        "div",
        tag("a", "to the results", class_="skip", href="#main"),
        tag("header", tag("h1", title), tag("p", lead, class_="lead"), _contents(parts)),
        tag("main", *(section(p.id, p.title, p.content) for p in parts), id="main"),
        class_="page",
    )
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"{tag('title', title)}<style>{STYLE}</style>"
    )
    return (
        f'<!doctype html><html lang="en"><head>{head}</head>'
        f"<body>{body}<script>{SCRIPT}</script></body></html>\n"
    )


def _parts(run: RunReport) -> list[Part]:
    most = _examples_each(run.results)
    choices = [choose(result.scores.without_subsets(), most) for result in run.results]
    parts = [_verdicts(run.results)]
    parts += [
        _result(number, result, choice)
        for number, (result, choice) in enumerate(zip(run.results, choices, strict=True), start=1)
    ]
    if any("seed" in line for line in run.metrics):
        parts.append(Part("training", "Training", losses(run.metrics)))
    parts.append(Part("adapters", "What the adapters have in common", diagnostics(run.diagnostics)))
    parts += [Part(id, title, content) for id, title, content in run.more]
    parts.append(Part("cost", "What it took", cost(run.metrics, run.costs, run.results)))
    parts.append(_examples(run.results, choices))
    parts.append(Part("reading", "How to read this", bullets(CAVEATS)))
    parts.append(Part("again", "To run it again", rerun(run.rerun)))
    return parts


def _verdicts(results: Sequence[Result]) -> Part:
    boxes = []
    for number, result in enumerate(results, start=1):
        named = tag("h3", link(f"task-{number}", result.summary.task)) if len(results) > 1 else ""
        said = paragraphs(verdict(result.summary))
        first = tag("p", headline(result.summary), class_="headline")
        boxes.append(tag("div", named, first, said, class_="verdict"))
    return Part("verdict", "In short", join(boxes))


def _result(number: int, result: Result, choice: Choice) -> Part:
    prefix = f"task-{number}"
    inner = [
        (f"{prefix}-intervals", "Intervals", intervals(result.summary)),
        (f"{prefix}-members", "Against each seed", against_members(result.summary)),
        (f"{prefix}-metrics", "Every metric", metrics(result.summary)),
        (f"{prefix}-groups", "By group of examples", example_groups(result.summary)),
        (f"{prefix}-overlap", "Who solves what", overlap(result, choice, prefix)),
        (f"{prefix}-sizes", TITLE, seed_counts(result)),
    ]
    content = join(
        [
            html_table(result.summary),
            *(section(id, title, html, level=3) for id, title, html in inner if html),
        ]
    )
    under = [(id, title) for id, title, html in inner if html]
    return Part(prefix, result.summary.task, content, under)


def _examples(results: Sequence[Result], choices: Sequence[Choice]) -> Part:
    shown, under = [], []
    for number, (result, choice) in enumerate(zip(results, choices, strict=True), start=1):
        prefix = f"task-{number}"
        inner = examples(result, choice, prefix)
        if len(results) > 1:
            id = f"{prefix}-examples"
            under.append((id, result.summary.task))
            inner = section(id, result.summary.task, inner, level=3)
        shown.append(inner)
    return Part("examples", "What they said", join(shown), under)


def _examples_each(results: Sequence[Result]) -> int:
    """So many examples of each benchmark that the page stays small enough to be mailed."""
    texts = sum(TEXT_LENGTH * len(result.scores.without_subsets().models) for result in results)
    return max(FEWEST_EXAMPLES, min(MOST_EXAMPLES, EXAMPLE_LETTERS // texts))


def _contents(parts: Sequence[Part]) -> Html:
    items = []
    for part in parts:
        inner = tag("ul", *(tag("li", link(id, title)) for id, title in part.under))
        items.append(tag("li", link(part.id, part.title), inner if part.under else ""))
    return tag("nav", tag("ul", *items), aria_label="Contents")

"""Several runs of one recipe: the gain of each group of seeds, and of all together."""

from lorafuse_jax.evaluation.grouped_gain import GroupedGain
from lorafuse_jax.evaluation.seed_groups import GroupedRow, GroupedSummary
from lorafuse_jax.evaluation.statistics import Finding
from lorafuse_jax.report.drawing import Bar, bars
from lorafuse_jax.report.markup import Cell, Html, Row, figure, join, paragraphs, table, tag
from lorafuse_jax.report.table import SIGNIFICANT, format_p, gain_cell, percent
from lorafuse_jax.report.text_table import escaped, markdown_rows
from lorafuse_jax.report.verdict import in_one_sentence

HEADINGS = (
    "model",
    "accuracy % [95 %]",
    "gain, points [95 %]",
    "p",
    "over best seed [95 %]",
    "log-lik. gain [95 %]",
    "p",
)


def groups_verdict(summary: GroupedSummary) -> Html:
    """What may be said of the recipe, whatever its seeds."""
    found: dict[Finding, list[str]] = {}
    for row in summary.rows:
        if row.gain is not None:
            found.setdefault(row.gain.finding, []).append(row.name)
    said = f"Over {len(summary.groups)} groups of seeds, in accuracy, "
    first = tag("p", f"{said}{in_one_sentence(found, summary.margin)}.", class_="headline")
    texts = [_numbers(row.name, row.gain) for row in summary.rows if row.gain]
    texts.append(
        f"A sign-flip test of {len(summary.groups)} groups alone cannot give a p below "
        f"{format_p(summary.smallest_p)}."
    )
    texts += [
        f"{model} is not compared: there is none in {', '.join(groups)}."
        for model, groups in summary.not_everywhere.items()
    ]
    return tag("div", first, paragraphs(texts), class_="verdict")


def groups_table(summary: GroupedSummary) -> Html:
    """The table over groups, and each group's own accuracy."""
    rows = [
        Row([*cells(row), *(f"{100 * x:.1f}" for x in row.by_group)], row.kind.replace(" ", "-"))
        for row in summary.rows
    ]
    return table(
        f"{len(summary.groups)} groups of seeds on {summary.task}",
        [*HEADINGS, *summary.groups],
        rows,
        groups=[("", 1), ("all groups", 6), ("accuracy % of each group", len(summary.groups))],
        note=caption(summary),
    )


def groups_figure(summary: GroupedSummary) -> Html:
    """A forest plot a tested model: every group's gain, and that of all."""
    drawn = []
    for row in summary.rows:
        if row.gain is None:
            continue
        rest = [
            Bar(name, "seed", 100 * gain, 100 * gain, 100 * gain, f"{100 * gain:+.1f}")
            for name, gain in zip(summary.groups, row.gain.by_group, strict=True)
        ]
        d = row.gain.difference
        bounds = (100 * d.value, 100 * d.low, 100 * d.high)
        every = Bar("all groups", row.kind, *bounds, _points(row.gain))
        words = "; ".join(f"{bar.name} {bar.text}" for bar in (*rest, every))
        plot = bars([*rest, every], words, line=0.0, form=lambda x: f"{x:+g}" if x else "0")
        drawn.append(figure(f"{row.name}: gain over the group's mean seed, points", plot))
    return join(drawn)


def cells(row: GroupedRow) -> tuple[str | Cell, ...]:
    """A line of the table but for the groups' own columns."""
    gain, best, likely = row.gain, row.gain_over_best, row.likelihood_gain
    sure = gain is not None and gain.corrected_p < SIGNIFICANT
    over = (
        ""
        if best is None
        else f"{100 * best.value:+.1f} " + (f"[{100 * best.low:+.0f}, {100 * best.high:+.0f}]")
    )
    return (
        row.name,
        percent(row.accuracy),
        Cell("" if gain is None else _points(gain), "sure" if sure else ""),
        "" if gain is None else format_p(gain.corrected_p),
        over,
        "" if likely is None else gain_cell(likely, likely.corrected_p, 1, 3, 3),
        "" if likely is None else format_p(likely.corrected_p),
    )


def markdown(summary: GroupedSummary) -> str:
    """The same table for a README."""
    headings = [*HEADINGS, *summary.groups]
    rows = []
    for row in summary.rows:
        texts = [cell.content if isinstance(cell, Cell) else cell for cell in cells(row)]
        texts += [f"{100 * x:.1f}" for x in row.by_group]
        rows.append(list(map(escaped, texts)))
    return f"{markdown_rows(headings, rows)}\n\n{escaped(caption(summary))}\n"


def caption(summary: GroupedSummary) -> str:
    """What the columns mean."""
    return (
        f"{summary.task}, {summary.examples} examples, {len(summary.groups)} groups of seeds, each "
        "fused by itself. Gains are over the group's own mean seed, with intervals over groups and "
        "examples; p is of the same, corrected (Holm) for the rows tested; * is p below 0.05. The "
        "gain over the best seed on validation is not corrected. Log-likelihood is in nats a "
        "token, and a family of its own."
    )


def _points(gain: GroupedGain) -> str:
    return gain_cell(gain, gain.corrected_p, 100, 1, 0)


def _numbers(name: str, gain: GroupedGain) -> str:
    """All that was tested of one model, by every way to do it."""
    value, low, high = (100 * x for x in vars(gain.difference).values())
    wide = [100 * x for x in (gain.bootstrap.low, gain.bootstrap.high)]
    power = (
        ""
        if gain.detectable is None
        else f" A true gain of {100 * gain.detectable:.1f} points would be found with probability "
        "0.8."
    )
    return (
        f"{name}: {value:+.1f} points [{low:+.1f}, {high:+.1f}], p {format_p(gain.corrected_p)} "
        f"corrected. Over groups alone: sign flips p {format_p(gain.sign_flip_p)}, Student's t p "
        f"{format_p(gain.student_p)}; bootstrap [{wide[0]:+.1f}, {wide[1]:+.1f}].{power}"
    )

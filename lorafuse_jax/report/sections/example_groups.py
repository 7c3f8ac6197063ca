"""Results by groups of examples: subjects, templates."""

from lorafuse_jax.evaluation.example_groups import ExampleGroups
from lorafuse_jax.evaluation.lineup import TESTED
from lorafuse_jax.evaluation.statistics import Interval
from lorafuse_jax.evaluation.summary import Summary
from lorafuse_jax.report.markup import Cell, Html, Row, join, table
from lorafuse_jax.report.table import percent

GROUPS_SHOWN = 60
STRONG = 0.3
"""A difference to the mean seed from which on a cell has its full colour."""


def example_groups(summary: Summary) -> Html:
    """The mean over groups, and every group's own accuracy; nothing where there are no groups."""
    found = summary.example_groups
    if found is None:
        return Html("")
    return join([_over_groups(summary.task, found), _each(summary.task, found)])


def _over_groups(task: str, found: ExampleGroups) -> Html:
    rows = [
        Row(
            [
                line.name,
                percent(line.macro),
                "" if line.gain is None else _points(line.gain),
                f"{100 * line.spread:.1f}",
                f"{100 * line.noise:.1f}",
            ],
            line.kind.replace(" ", "-"),
        )
        for line in found.lines
    ]
    return table(
        f"Mean over the {len(found.sizes)} groups of {task}, each counting the same",
        ["model", "% [95 %]", "gain [95 %]", "spread", "of which luck"],
        rows,
        note="Intervals are over groups. Examples of one group are not independent of each other: "
        "where these intervals are much wider than those over examples, believe these. Spread is "
        "the standard deviation of the groups' accuracies, and what it would be, were all groups "
        "equally hard. Nothing is corrected.",
    )


def _each(task: str, found: ExampleGroups) -> Html:
    largest = sorted(found.sizes, key=lambda group: -found.sizes[group])[:GROUPS_SHOWN]
    mean = next(line for line in found.lines if line.kind == "mean seed").accuracy
    others = [line for line in found.lines if line.kind in ("base", *TESTED)]
    rows = []
    for group in (name for name in found.sizes if name in largest):
        cells: list[str | Cell] = [
            group or "(none)",
            str(found.sizes[group]),
            f"{100 * mean[group]:.1f}",
        ]
        for line in others:
            difference = line.accuracy[group] - mean[group]
            shown = f"{100 * line.accuracy[group]:.1f}"
            if line.kind == "base" or difference == 0:
                cells.append(shown)
            else:
                sign = "warm" if difference > 0 else "cold"
                cells.append(Cell(shown, sign, min(1.0, abs(difference) / STRONG)))
        rows.append(Row(cells))
    left = len(found.sizes) - len(rows)
    return table(
        f"Accuracy on {task} by group, per cent",
        ["group", "examples", "mean of seeds", *(line.name for line in others)],
        rows,
        note=f"Coloured by the difference to the mean seed, in full from {100 * STRONG:.0f} points "
        "on: warm is better, cold worse. Nothing is tested, and small groups differ by luck."
        + (f" The largest {len(rows)} of {len(found.sizes)}." if left else ""),
        classes="heat",
    )


def _points(gain: Interval) -> str:
    value, low, high = (100 * x for x in (gain.value, gain.low, gain.high))
    return f"{value:+.1f} [{low:+.0f}, {high:+.0f}]"

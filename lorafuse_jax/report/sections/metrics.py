"""Every metric of a benchmark for every model, and the first one group by group."""

import numpy as np

from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.statistics import accuracy_interval
from lorafuse_jax.report.markup import Cell, Html, Row, join, table

GROUPS_SHOWN = 40


def metrics(scores: Scores) -> Html:
    """Tables of what the scorer gave; nothing where one number says it all."""
    return join([_by_metric(scores), _by_group(scores)])


def _by_metric(scores: Scores) -> Html:
    if len(scores.values) < 2:
        return Html("")
    rows = []
    for number, model in enumerate(scores.models):
        means = [accuracy_interval(values[number]) for values in scores.values.values()]
        cells = [f"{100 * m.value:.1f} [{100 * m.low:.0f}, {100 * m.high:.0f}]" for m in means]
        rows.append(Row([model, *cells], scores.kinds[number]))
    return table(
        f"Every metric on {scores.task}, per cent [95 %]",
        ["model", *scores.values],
        rows,
        note=f"Models are compared by {scores.metric}, the first.",
    )


def _by_group(scores: Scores) -> Html:
    named = {group: scores.groups.count(group) for group in dict.fromkeys(scores.groups) if group}
    if len(named) < 2:
        return Html("")
    largest = sorted(named, key=lambda group: -named[group])[:GROUPS_SHOWN]
    of_group = {group: np.array([g == group for g in scores.groups]) for group in largest}
    seeds = scores.rows_of("seed")
    others = [n for n, kind in enumerate(scores.kinds) if kind != "seed"]
    rows = []
    for group in sorted(largest):
        values = scores.primary[:, of_group[group]].mean(axis=1)
        mean = values[seeds].mean()
        cells: list[str | Cell] = [group, str(named[group]), f"{100 * mean:.1f}"]
        for number in others:
            difference = values[number] - mean
            shown = scores.kinds[number] == "fused" and abs(difference) > 0
            sign = ("warm" if difference > 0 else "cold") if shown else ""
            strength = min(1.0, abs(float(difference)) / 0.3) if shown else None
            cells.append(Cell(f"{100 * values[number]:.1f}", sign, strength))
        rows.append(Row(cells))
    left = len(named) - len(largest)
    return table(
        f"{scores.metric} on {scores.task} by group, per cent",
        ["group", "examples", "mean seed", *(scores.models[n] for n in others)],
        rows,
        note="Coloured by the difference to the mean seed, in full from 30 points on; nothing is "
        "tested, and small groups differ by luck."
        + (f" The {len(largest)} largest groups of {len(named)}." if left else ""),
        classes="heat",
    )

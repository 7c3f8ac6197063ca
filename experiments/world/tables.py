"""The controlled world's results as Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.world.conditions import MEMBERS
from experiments.world.config import LAPTOP
from experiments.world.judged import (
    BETWEEN,
    Judged,
    Tables,
    judged_contrasts,
    judged_rows,
    moved,
    overlap,
    seeds_of,
    values,
)
from experiments.world.language import TASKS
from experiments.world.record import read_marks
from experiments.world.rows import ROWS
from lorafuse_jax.evaluation.statistics import Interval, gain_over_groups
from lorafuse_jax.report.text_table import escaped, markdown_rows

HEADINGS = ("row", "right, % [95 %]", "gain, points [95 %]", "p", "finding", "log-lik. gain [95 %]")
SHORT = ("mean, norm matched", "mean", "mean, scale chosen", "version 1", "version 2")


def world_page(results: Path) -> str:
    """All tables of what is there so far."""
    parts = [
        "# The controlled world\n",
        "Made by `experiments/study_report.py` from the files in `experiments/results/study/world/`. "
        "Gains are against the mean seed of the same group; intervals are over groups and problems; "
        "p is corrected (Holm) over the rows of a table; `equivalent` means that the whole interval "
        "lies within two points. Settings were chosen on other groups' validation loss.\n",
    ]
    for task in TASKS:
        for split, about in (("test", "two steps, as trained"), ("longer", "three steps, unseen")):
            file = results / f"{task}-{split}.npz"
            if file.exists():
                table = read_marks(file)
                parts += [_test_part(f"{task}: {about}", table)]
                if split == "test":
                    parts += [_contrast_part(task, table), _overlap_part(table)]
        parts += [_chosen_part(results, task), _counts_part(results, task)]
        parts += [_sweeps_part(results, task)]
    return "\n".join(part for part in parts if part)


def percent(interval: Interval, digits: int = 1) -> str:
    """A share with its interval."""
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def points(interval: Interval) -> str:
    """A difference of shares with its interval, in points."""
    numbers = [100 * x for x in (interval.value, interval.low, interval.high)]
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*numbers)


def nats(interval: Interval | None) -> str:
    """A difference in nats a token."""
    if interval is None:
        return ""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _p(value: float) -> str:
    if np.isnan(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _line(one: Judged) -> list[str]:
    tested = not np.isnan(one.p_value)
    return [
        escaped(one.name),
        "" if one.level is None else percent(one.level),
        "" if one.name == "mean seed" else points(one.gain),
        _p(one.p_value),
        one.finding if tested else "",
        "" if one.name == "mean seed" else nats(one.likelihood_gain),
    ]


def _test_part(title: str, table: Tables) -> str:
    groups, problems = values(table["base"]).shape
    rows = judged_rows(table)
    first = [one for one in rows if one.name in ("mean seed", "base")]
    rest = [one for one in rows if one not in first]
    rest.sort(key=lambda one: -one.gain.value)
    lines = [_line(one) for one in (*first, *rest)]
    about = f"{groups} groups of {len(seeds_of(table))} seeds, {problems} problems.\n"
    return f"## {title}\n\n{about}\n{markdown_rows(HEADINGS, lines)}\n"


def _contrast_part(task: str, table: Tables) -> str:
    lines = [[line[0], *line[2:]] for line in map(_line, judged_contrasts(table, BETWEEN))]
    headings = ("difference", "points [95 %]", "p", "finding", "log-lik. [95 %]")
    return f"### {task}: what the gain is made of\n\n{markdown_rows(headings, lines)}\n"


def _overlap_part(table: Tables) -> str:
    one = overlap(table)
    text = (
        f"One seed has {one.seed:.1%} right (seeds of a group differ by {one.spread:.1%}), all "
        f"three {one.all_right:.1%}, at least one {one.any_right:.1%}; were their "
        f"errors independent, at least one would have {one.any_by_chance:.1%}. "
        f"Two seeds agree on {one.agree:.1%}."
    )
    for row in ("version 2", "mean, scale chosen", "mean", "ensemble of logits"):
        if row in table:
            new, lost = moved(table, row)
            text += (
                f" {row[0].upper()}{row[1:]}: right where no seed is {new:.1%}, wrong where all "
            )
            text += f"are right {lost:.1%}."
    return text + "\n"


def _chosen_part(results: Path, task: str) -> str:
    file = results / f"{task}-chosen.json"
    if not file.exists():
        return ""
    losses = json.loads(file.read_text())
    lines = []
    for name, own in losses.items():
        best = int(np.argmin(own))
        settings = (
            ", ".join(f"{k} = {v}" for k, v in ROWS[name].settings[best].items()) or "default"
        )
        lines.append([escaped(name), settings, f"{own[best]:.4f}", f"{own[0]:.4f}"])
    headings = ("row", "chosen", "held-out loss", "with the first setting")
    return f"### {task}: settings chosen on validation\n\n{markdown_rows(headings, lines)}\n"


def _short(table: Tables) -> list[str]:
    """Mean seed, and the gains of the few rows that sweeps have."""
    mean = seeds_of(table).mean(axis=0)
    rows = [name for name in (*SHORT, "ensemble of logits") if name in table]
    gains = [gain_over_groups(values(table[n]) - mean, bounded=True).interval() for n in rows]
    return [f"{100 * mean.mean():.1f}", *map(points, gains)]


def _few(results: Path, title: str, stems: Sequence[tuple[str, str]]) -> str:
    lines = []
    for name, stem in stems:
        file = results / f"{stem}.npz"
        if not file.exists():
            continue
        table = read_marks(file)
        apart = json.loads((results / f"{stem}.json").read_text())
        groups = len(next(iter(table.values())))
        cosine, shrinking = np.mean(apart["cosine"]), np.mean(apart["shrinking"])
        lines.append([name, str(groups), f"{cosine:.2f}", f"{shrinking:.2f}", *_short(table)])
    if not lines:
        return ""
    headings = (
        *("", "groups", "cosine of seeds", "norm of mean / seed", "mean seed, %"),
        *SHORT,
        "ensemble",
    )
    return f"### {title}\n\n{markdown_rows(headings, lines)}\n"


def _counts_part(results: Path, task: str) -> str:
    stems = [(f"N = {count}", f"{task}-n{count}") for count in sorted({*LAPTOP.counts, MEMBERS})]
    return _few(results, f"{task}: gain in points over the mean seed, by number of seeds", stems)


def _sweeps_part(results: Path, task: str) -> str:
    named = [(name, f"{task}-{name.replace(' ', '-').replace('/', '-')}") for name in LAPTOP.sweeps]
    return _few(results, f"{task}: gain in points over the mean seed, under other recipes", named)

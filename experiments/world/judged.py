"""Statistics of the controlled world: gains over the mean seed, contrasts, complementarity."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.world.answers import Marks
from lorafuse_jax.evaluation.statistics import (
    Finding,
    Interval,
    conclude,
    crossed_estimate,
    gain_over_groups,
    holm,
)

Tables = Mapping[str, Sequence[Marks]]
MARGIN = 0.02
"""The largest difference in accuracy that is called none."""
REFERENCE = "mean seed"
UNTESTED = ("base", "seed ")
BETWEEN = (
    ("version 2", "mean"),
    ("version 2", "mean, norm matched"),
    ("version 2", "mean, scale chosen"),
    ("version 2", "n times longer"),
    ("version 2", "rank n r"),
    ("version 2", "full fine-tuning"),
    ("version 2", "ensemble of logits"),
    ("version 1", "mean"),
    ("mean, scale chosen", "mean"),
    ("mean, scale chosen", "n times longer"),
    ("mean, scale chosen", "full fine-tuning"),
)
"""The protocol's contrasts, and those that say what the gain is made of."""


class Judged(NamedTuple):
    """A row, or a difference of two.

    Attributes:
        name: of it.
        level: accuracy, or None for a difference.
        gain: in accuracy over the mean seed, or of the first row over the second.
        p_value: corrected for its family.
        finding: what may be said.
        likelihood_gain: likewise in nats a token; None where there is none.
    """

    name: str
    level: Interval | None
    gain: Interval
    p_value: float
    finding: Finding
    likelihood_gain: Interval | None


def values(groups: Sequence[Marks], kind: str = "right") -> Float[np.ndarray, "G E"]:
    """Of one row."""
    return np.stack([getattr(one, kind) for one in groups]).astype(float)


def seeds_of(table: Tables, kind: str = "right") -> Float[np.ndarray, "S G E"]:
    """Of the groups' seeds."""
    return np.stack([values(own, kind) for name, own in table.items() if name.startswith("seed ")])


def judged_rows(table: Tables) -> list[Judged]:
    """Every row against the mean seed, one family of tests."""
    mean, likely = seeds_of(table).mean(axis=0), seeds_of(table, "log_likelihood").mean(axis=0)
    rows = [(REFERENCE, mean, likely)] + [
        (name, values(own), values(own, "log_likelihood"))
        for name, own in table.items()
        if not name.startswith("seed ")
    ]
    rows.append(
        ("any seed right (a bound)", seeds_of(table).max(axis=0), np.full_like(likely, np.nan))
    )
    tested = [name for name, *_ in rows if name not in (REFERENCE, "base") and "bound" not in name]
    gains = {n: gain_over_groups(own - mean, bounded=True) for n, own, _ in rows}
    corrected = dict(zip(tested, holm([gains[n].p_value() for n in tested]), strict=True))
    return [
        Judged(
            name,
            crossed_estimate(own, bounded=True, within=(0.0, 1.0)).interval(),
            gains[name].interval(),
            corrected.get(name, float("nan")),
            conclude(gains[name].interval(), corrected.get(name, 1.0), margin=MARGIN),
            _likelihood_gain(likelihood - likely),
        )
        for name, own, likelihood in rows
    ]


def judged_contrasts(table: Tables, pairs: Sequence[tuple[str, str]] = BETWEEN) -> list[Judged]:
    """Differences between rows of the same group, one family of tests."""
    known = [(a, b) for a, b in pairs if a in table and b in table]
    gains = [gain_over_groups(values(table[a]) - values(table[b]), bounded=True) for a, b in known]
    corrected = holm([gain.p_value() for gain in gains])
    return [
        Judged(
            f"{a} - {b}",
            None,
            gain.interval(),
            p,
            conclude(gain.interval(), p, margin=MARGIN),
            _likelihood_gain(
                values(table[a], "log_likelihood") - values(table[b], "log_likelihood")
            ),
        )
        for (a, b), gain, p in zip(known, gains, corrected, strict=True)
    ]


def _likelihood_gain(gains: Float[np.ndarray, "G E"]) -> Interval | None:
    return None if np.isnan(gains).any() else gain_over_groups(gains, bounded=False).interval()


class Overlap(NamedTuple):
    """What a group's seeds have right beyond one another; means over groups.

    Attributes:
        seed: accuracy of one.
        all_right: share of problems that every seed has right.
        any_right: share that at least one has.
        any_by_chance: what that would be, were errors of seeds of this accuracy independent.
        agree: share on which two seeds are both right or both wrong.
        spread: standard deviation of accuracy over seeds of a group.
    """

    seed: float
    all_right: float
    any_right: float
    any_by_chance: float
    agree: float
    spread: float


def overlap(table: Tables) -> Overlap:
    """Of the seeds."""
    right = seeds_of(table) > 0
    share = right.mean(axis=2)
    count = len(right)
    pairs = [(a, b) for a in range(count) for b in range(a)]
    return Overlap(
        float(share.mean()),
        float(right.all(axis=0).mean()),
        float(right.any(axis=0).mean()),
        float((1 - np.prod(1 - share, axis=0)).mean()),
        float(np.mean([(right[a] == right[b]).mean() for a, b in pairs])),
        float(share.std(axis=0, ddof=1).mean()),
    )


class Moved(NamedTuple):
    """Problems of a fused model against its seeds, shares of all, means over groups.

    Attributes:
        only_it: right, and no seed is.
        lost_from_all: wrong, and every seed is right.
    """

    only_it: float
    lost_from_all: float


def moved(table: Tables, row: str) -> Moved:
    """Newly solved and newly lost."""
    right, own = seeds_of(table) > 0, values(table[row]) > 0
    return Moved(float((own & ~right.any(axis=0)).mean()), float((~own & right.all(axis=0)).mean()))

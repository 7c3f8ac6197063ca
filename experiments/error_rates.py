"""How often the statistics err, on simulated answers with known effects.

    .venv/bin/python experiments/error_rates.py [--trials 800]    # two minutes on 2 cores

Writes ``experiments/results/error_rates.md``. A model answers right where its ability and a normal
error of its own exceed the example's difficulty, so that its true accuracy is a normal probability.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from lorafuse_jax.evaluation.statistics import (
    Interval,
    accuracy_interval,
    conclude,
    detectable_difference,
    exchange,
    gain_over_groups,
    gain_over_seeds,
    hierarchical_bootstrap,
    holm,
    pigeonhole_bootstrap,
    sign_flip_p_value,
)
from lorafuse_jax.evaluation.statistics.crossed import crossed_variances

Line = tuple[str, ...]
RESULTS = Path(__file__).parent / "results" / "error_rates.md"
SIZES = (60, 200, 1319)
DIFFICULTY, ERROR, ABILITY = 1.2, 0.6, 0.3
"""Standard deviations of difficulty and of single answers, and mean ability: 59 % are right, and
two seeds agree on 80 % of the examples."""


@dataclass(frozen=True)
class World:
    """What is simulated.

    Attributes:
        examples: E.
        seeds: S, of each group.
        groups: G.
        between_seeds: standard deviation of seeds' abilities; 0.1 is 3 points of accuracy.
        between_groups: likewise of what a group's seeds and fused model have in common.
        gain: in ability, of the fused model over its mean seed.
        follows: whether the fused model has its own seeds' mean ability, and a deviation of its own
            as large as a seed's; else always that of the mean of all seeds.
    """

    examples: int = 200
    seeds: int = 3
    groups: int = 1
    between_seeds: float = 0.0
    between_groups: float = 0.0
    gain: float = 0.0
    follows: bool = True

    def deviations(self) -> tuple[float, float]:
        """Of the fused model's and of a seed's latent score, over all that is drawn."""
        common = DIFFICULTY**2 + ERROR**2 + self.between_groups**2
        own = self.between_seeds**2
        fused = common + (own / self.seeds + own if self.follows else 0)
        return fused**0.5, (common + own) ** 0.5

    def true_gain(self) -> float:
        """In accuracy, over all examples, seeds and groups."""
        fused, seed = self.deviations()
        return float(np.diff(stats.norm.cdf([ABILITY / seed, (ABILITY + self.gain) / fused]))[0])

    def with_true_gain(self, points: float) -> "World":
        """The same with this true gain in accuracy."""
        fused, seed = self.deviations()
        latent = fused * stats.norm.ppf(stats.norm.cdf(ABILITY / seed) + points)
        return replace(self, gain=float(latent - ABILITY))


class Answers(NamedTuple):
    """Right and wrong answers: fused [N, G, E], seeds [N, G, S, E]."""

    fused: np.ndarray
    seeds: np.ndarray

    def gains(self) -> np.ndarray:
        """[N, G, E]."""
        return self.fused - self.seeds.mean(axis=2)


def simulate(world: World, trials: int, seed: int = 0) -> Answers:
    """So many experiments in that world."""
    rng = np.random.default_rng(seed)
    n, g, s, e = trials, world.groups, world.seeds, world.examples
    easy = rng.normal(ABILITY, DIFFICULTY, (n, 1, 1, e)).astype(np.float32)
    group = rng.normal(0, world.between_groups, (n, g, 1, 1))
    ability = rng.normal(0, world.between_seeds, (n, g, s, 1))
    own = rng.normal(0, world.between_seeds, (n, g, 1))
    of_fused = ability.mean(axis=2) + own if world.follows else 0 * own

    def answered(skill: np.ndarray) -> np.ndarray:
        error = rng.standard_normal((*skill.shape[:-1], e), np.float32)
        return (skill + ERROR * error > 0).astype(float)

    fused = answered(easy[:, 0] + (group[:, :, 0] + of_fused + world.gain).astype(np.float32))
    return Answers(fused, answered(easy + (group + ability).astype(np.float32)))


def sign_flip_rejects(world: World, trials: int) -> float:
    """Share of experiments in which the sign-flip test finds a difference."""
    gains = simulate(world, trials).gains()[:, 0]
    return float(np.mean([sign_flip_p_value(d) < 0.05 for d in gains]))


def mcnemar_rejects(world: World, trials: int) -> float:
    """Likewise McNemar's exact test of one model against one seed."""
    fused, seeds = simulate(world, trials)
    pairs = [exchange(f[0], s[0, 0]) for f, s in zip(fused, seeds, strict=True)]
    return float(np.mean([pair.p_value < 0.05 for pair in pairs]))


def better_or_worse(world: World, trials: int) -> tuple[float, float]:
    """Share of p alone below 5 %, and of findings that a model is better or worse."""
    fused, seeds = simulate(world, trials)
    found = []
    for row, members in zip(fused[:, 0], seeds[:, 0], strict=True):
        p = sign_flip_p_value(row - members.mean(axis=0))
        gain = gain_over_seeds(row, members, bounded=True).interval()
        found.append((p < 0.05, conclude(gain, p, margin=None) in ("better", "worse")))
    alone, called = np.mean(found, axis=0)
    return float(alone), float(called)


def any_of_several_rejects(models: int, trials: int) -> tuple[float, float]:
    """Share of families with a false finding: of plain p-values, and of Holm's."""
    world = World(seeds=3 + models)
    found = []
    for answers in simulate(world, trials).seeds[:, 0]:
        mean = answers[:3].mean(axis=0)
        p_values = [sign_flip_p_value(row - mean) for row in answers[3:]]
        found.append((min(p_values) < 0.05, min(holm(p_values)) < 0.05))
    plain, corrected = np.mean(found, axis=0)
    return float(plain), float(corrected)


def hold(intervals: list[Interval], truth: float) -> float:
    """Share of intervals that hold the truth."""
    return float(np.mean([i.low <= truth <= i.high for i in intervals]))


def crossed_covers(world: World, trials: int) -> tuple[float, float]:
    """Coverage and median width of the interval over examples and seeds, or groups if several."""
    answers = simulate(world, trials)
    gains = (
        answers.gains() if world.groups > 1 else (answers.fused[:, 0, None] - answers.seeds[:, 0])
    )
    centre = gains.mean(axis=(1, 2))
    half = crossed_variances(gains, bounded=True).half_width(0.025)
    held = np.abs(centre - world.true_gain()) <= half
    return float(held.mean()), float(np.median(2 * half))


def bootstrap_covers(world: World, trials: int, resamples: int = 500) -> tuple[float, float]:
    """The same of the percentile bootstrap."""
    fused, seeds = simulate(world, trials)
    found = [
        hierarchical_bootstrap(f, list(s), n, resamples)
        if world.groups > 1
        else pigeonhole_bootstrap(f[0], s[0], n, resamples)
        for n, (f, s) in enumerate(zip(fused, seeds, strict=True))
    ]
    return hold(found, world.true_gain()), float(np.median([i.high - i.low for i in found]))


def one_model_covers(examples: int, right: float, trials: int, samples: int = 1) -> float:
    """Coverage of the interval of a share of right answers, or of a mean of shares of several."""
    rng = np.random.default_rng(0)
    easy = rng.beta(right, 1 - right, (trials, examples)) if samples > 1 else right
    drawn = rng.binomial(samples, easy, (trials, examples)) / samples
    return hold([accuracy_interval(row) for row in drawn], right)


def power_at_detectable(world: World, trials: int) -> tuple[float, float]:
    """The detectable difference without any effect, and how often such an effect is found."""
    null = simulate(world, min(trials, 200), seed=1).gains()[:, 0]
    detectable = float(np.mean([detectable_difference(d, 1 / world.seeds) or 1 for d in null]))
    return detectable, sign_flip_rejects(world.with_true_gain(detectable), trials)


def power_of_rare_gains(examples: int, trials: int) -> tuple[float, float]:
    """The same where models agree on every example but those that the true gain makes differ."""
    detectable = detectable_difference(np.zeros(examples), 1.0) or 1.0
    gained = np.random.default_rng(0).random((trials, examples)) < detectable
    return detectable, float(np.mean([sign_flip_p_value(d.astype(float)) < 0.05 for d in gained]))


def power_over_groups(world: World, trials: int) -> tuple[float, float]:
    """The same over groups of seeds, of the p-value that is reported."""
    null = simulate(world, min(trials, 200), seed=1).gains()
    each = [gain_over_groups(g, bounded=True).detectable() or 1 for g in null]
    detectable = float(np.median(each))
    gains = simulate(world.with_true_gain(detectable), trials).gains()
    half = crossed_variances(gains, bounded=True).half_width(0.025)
    return detectable, float(np.mean(np.abs(gains.mean(axis=(1, 2))) > half))


def table(title: str, head: Line, rows: Iterable[Iterable[str | float]]) -> str:
    """In Markdown; numbers as per cent."""
    shown = [[c if isinstance(c, str) else f"{100 * c:.1f}" for c in row] for row in rows]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *shown]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def findings_tables(trials: int) -> Iterator[str]:
    """Of what is found where nothing is."""
    yield table(
        "False findings at 5 % where nothing differs",
        ("examples", "sign flip, 3 seeds", "McNemar"),
        (
            (str(e), sign_flip_rejects(World(e), trials), mcnemar_rejects(World(e), trials))
            for e in SIZES
        ),
    )
    yield table(
        "Called better or worse in one run, with no gain over seeds in general",
        ("seeds", "differ by", "p < 5 %", "called", "with luck of its own: p < 5 %", "called"),
        (
            (
                str(seeds),
                f"{30 * spread:.0f}",
                *better_or_worse(World(seeds=seeds, between_seeds=spread, follows=False), trials),
                *better_or_worse(World(seeds=seeds, between_seeds=spread), trials),
            )
            for seeds, spread in ((3, 0.0), (2, 0.1), (3, 0.1), (3, 0.3), (8, 0.1))
        ),
    )
    yield table(
        "Families with any false finding",
        ("models", "plain p", "Holm"),
        ((str(n), *any_of_several_rejects(n, trials)) for n in (1, 5, 20)),
    )


def coverage_tables(trials: int) -> Iterator[str]:
    """Of how often 95 % intervals hold the truth, the bootstrap's in fewer experiments."""
    shares = ((60, 0.5), (60, 0.95), (1319, 0.6))
    rows = [(f"{e}, {r:.0%} right", one_model_covers(e, r, trials)) for e, r in shares]
    rows += [(f"{e}, shares of 5", one_model_covers(e, 0.5, trials // 2, 5)) for e in SIZES]
    yield table("Coverage of 95 % intervals of one model", ("examples", "covered"), rows)
    spreads, groups = (0.0, 0.03, 0.1, 0.3), World(between_groups=0.1)
    one_run = World(follows=False)
    for title, count, worlds in (
        ("examples and seeds", "seeds", [replace(one_run, seeds=n) for n in (2, 3, 5, 8)]),
        ("groups of three seeds", "groups", [replace(groups, groups=n) for n in (2, 3, 5, 10)]),
    ):
        every = [replace(world, between_seeds=spread) for world in worlds for spread in spreads]
        rates = (
            (*crossed_covers(world, trials), *bootstrap_covers(world, trials // 4))
            for world in every
        )
        names = ((str(getattr(w, count)), f"{30 * w.between_seeds:.0f}") for w in every)
        yield table(
            f"Coverage of 95 % intervals over {title}",
            (count, "seeds differ by", "covered", "width", "bootstrap covered", "width"),
            (name + rate for name, rate in zip(names, rates, strict=True)),
        )


def power_table(trials: int) -> str:
    """Of how often the difference that is called detectable is found."""
    rows = [(f"{e} examples, 3 seeds", *power_at_detectable(World(e), trials)) for e in SIZES]
    rows += [(f"{e} examples, else alike", *power_of_rare_gains(e, trials)) for e in SIZES]
    for groups in (3, 5, 10):
        world = World(groups=groups, between_seeds=0.1)
        rows.append((f"{groups} groups, seeds differ by 3", *power_over_groups(world, trials)))
    title = "How often the difference called detectable is found (meant: 80)"
    return table(title, ("test", "points", "found"), rows)


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=800)
    trials = parser.parse_args().trials
    intro = (
        "# How often the statistics err\n\n`.venv/bin/python experiments/error_rates.py`: "
        f"{trials} simulated experiments a line, in per cent, 5 % being known to "
        f"+-{196 * (0.0475 / trials) ** 0.5:.1f}. "
        "Seeds differ by so many points of accuracy (standard deviation). The bootstrap has a "
        "quarter as many experiments a line, shares of 5 half."
    )
    parts = [intro, *findings_tables(trials), *coverage_tables(trials), power_table(trials)]
    RESULTS.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()

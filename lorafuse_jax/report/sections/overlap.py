"""Who is right where: do the models solve the same examples, and what does fusing win and lose."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.summary import Summary
from lorafuse_jax.report.markup import Cell, Html, Row, join, link, paragraphs, table, tag
from lorafuse_jax.report.sections.example_choice import Choice
from lorafuse_jax.report.sections.examples import example_id
from lorafuse_jax.report.sections.result import Result
from lorafuse_jax.report.table import format_p

IDS_SHOWN = 12


def overlap(result: Result, choice: Choice, prefix: str) -> Html:
    """Union and intersection of the seeds, the agreement of all pairs, and who wins what.

    Args:
        result: of the benchmark.
        choice: the examples that are shown; ids of these are links.
        prefix: of their ids on the page.
    """

    def named(numbers: Sequence[int]) -> Html:
        return _ids(result.scores.ids, numbers, choice, prefix)

    right = result.scores.primary == 1
    return join(
        [
            paragraphs([_seeds_in_words(result.summary, right[result.scores.rows_of("seed")])]),
            _agreement(result.scores, right),
            _exchange(result.summary),
            _won_and_lost(result.scores, right, named),
        ]
    )


def pair_agreement(right: Bool[np.ndarray, "models E"]) -> Float[np.ndarray, "models models"]:
    """The share of examples on which two models are both right or both wrong."""
    values = right.astype(float)
    both = values @ values.T + (1 - values) @ (1 - values).T
    return both / right.shape[1]


def _seeds_in_words(summary: Summary, seeds: Bool[np.ndarray, "S E"]) -> str:
    count, examples = seeds.shape
    union, all_of_them = int(seeds.any(axis=0).sum()), int(seeds.all(axis=0).sum())
    mean = summary.row("mean seed").accuracy.value
    agree = f" Two seeds agree on being right or wrong on {summary.agreement:.0%} of the examples."
    return (
        f"The mean of the {count} seeds is right on {mean:.0%} of {examples} examples; at least one "
        f"is right on {union} ({union / examples:.0%}), every one on {all_of_them} "
        f"({all_of_them / examples:.0%}): what lies between is what they could teach one another."
        + (agree if count > 1 else "")
    )


def _agreement(scores: Scores, right: Bool[np.ndarray, "models E"]) -> Html:
    shares = pair_agreement(right)
    pairs = shares[~np.eye(len(shares), dtype=bool)]
    low, high = (float(pairs.min()), float(pairs.max())) if pairs.size else (0.0, 1.0)
    rows = []
    for i, model in enumerate(scores.models):
        cells: list[str | Cell] = [model]
        for j in range(len(shares)):
            strength = (float(shares[i, j]) - low) / (high - low) if high > low else 0.0
            shown = f"{100 * shares[i, j]:.0f}"
            cells.append("–" if i == j else Cell(shown, "cold", strength))
        rows.append(Row(cells))
    return table(
        f"Agreement on {scores.task}: both right or both wrong, % of examples",
        ["", *scores.models],
        rows,
        note="The stronger the colour, the more alike two models are among these.",
        classes="heat",
    )


def _exchange(summary: Summary) -> Html:
    best = summary.best_seed
    rows = [
        Row(
            [
                row.name,
                str(row.against_best.gained),
                str(row.against_best.lost),
                format_p(row.against_best.p_value),
            ]
        )
        for row in summary.rows
        if row.against_best is not None
    ]
    if not rows:
        return Html("")
    return table(
        f"Examples exchanged with {best}, the best seed on validation",
        ["model", f"right, {best} wrong", f"wrong, {best} right", "p"],
        rows,
        note="Numbers of examples; p is McNemar's exact test, not corrected.",
    )


def _won_and_lost(
    scores: Scores, right: Bool[np.ndarray, "models E"], named: Callable[[Sequence[int]], Html]
) -> Html:
    seeds = right[scores.rows_of("seed")]
    rows = []
    for number in scores.rows_of("fused"):
        won = np.flatnonzero(right[number] & ~seeds.any(axis=0))
        lost = np.flatnonzero(~right[number] & seeds.all(axis=0))
        cells: list[str | Cell] = [scores.models[number]]
        for ids in (won, lost):
            cells += [str(len(ids)), Cell(named(ids.tolist()), "text ids")]
        rows.append(Row(cells))
    if not rows:
        return Html("")
    return table(
        "What only the fused model solves, and what only it loses",
        ["model", "won", "right, every seed wrong", "lost", "wrong, every seed right"],
        rows,
        note="Links lead to the examples below; the others are in answers.jsonl.",
    )


def _ids(ids: Sequence[str], numbers: Sequence[int], choice: Choice, prefix: str) -> Html:
    # Those that can be looked at come first.
    ordered = sorted(numbers, key=lambda number: (number not in choice.shown, number))
    shown = [
        link(example_id(prefix, number), ids[number])
        if number in choice.shown
        else tag("code", ids[number])
        for number in ordered[:IDS_SHOWN]
    ]
    left = len(ordered) - len(shown)
    return join([*shown, tag("span", f"and {left} more") if left else ""], " ")

"""Who is right where: do the models solve the same examples, and what does fusing win and lose."""

from collections.abc import Sequence

from lorafuse_jax.evaluation.complementarity import Complementarity
from lorafuse_jax.evaluation.summary import ACCURACY
from lorafuse_jax.report.drawing import Bar, bars
from lorafuse_jax.report.markup import (
    Cell,
    Html,
    Row,
    details,
    figure,
    join,
    link,
    paragraphs,
    table,
    tag,
)
from lorafuse_jax.report.sections.example_choice import Choice
from lorafuse_jax.report.sections.examples import example_id
from lorafuse_jax.report.sections.result import Result

IDS_SHOWN = 12


def overlap(result: Result, choice: Choice, prefix: str) -> Html:
    """Union and intersection of the seeds, the agreement of all pairs, and who wins what.

    Nothing where answers are not right or wrong.

    Args:
        result: of the benchmark.
        choice: the examples that are shown; ids of these are links.
        prefix: of their ids on the page.
    """
    summary = result.summary
    found = summary.complementarity
    if found is None or summary.measure != ACCURACY:
        return Html("")
    examples, on = summary.examples, f" on {summary.task}"
    return join(
        [
            paragraphs(_in_words(found, examples)),
            _solved_by(found, examples),
            _matrix(f"Agreement{on}: both right or both wrong, % of examples", found, found.agree),
            _more(found, on),
            _moved(found, on, result.scores.ids, choice, prefix),
        ]
    )


def _in_words(found: Complementarity, examples: int) -> list[str]:
    seeds = len(found.solved_by) - 1
    if seeds < 2:
        return ["There is one seed: no other that it could have something in common with."]
    said = (
        f"At least one of the {seeds} seeds is right on {found.union:.0%} of {examples} "
        f"examples, every one on {found.intersection:.0%}. Had they nothing in common but "
        f"their accuracies, it would be {found.union_by_chance:.0%} and "
        f"{found.intersection_by_chance:.0%}."
    )
    agree = f"Two seeds are both right or both wrong on {found.seeds_agree:.0%}"
    if found.seeds_kappa is not None:
        agree += f" (Cohen's kappa {found.seeds_kappa:.2f}: 0 is chance, 1 full agreement)"
    if found.consistency is not None and found.correct_consistency is not None:
        agree += (
            f"; they give the same answer to {found.consistency:.0%}, and the right one to "
            f"{found.correct_consistency:.0%}"
        )
    return [said, f"{agree}."]


def _solved_by(found: Complementarity, examples: int) -> Html:
    """A bar from zero for each number of seeds."""
    seeds = len(found.solved_by) - 1
    if seeds < 2:
        return Html("")
    names = ["no seed", *(f"{n} of {seeds} seeds" for n in range(1, seeds)), "every seed"]
    drawn = [
        Bar(name, "seed", count, 0.0, count, f"{count} ({count / examples:.0%})")
        for name, count in zip(names, found.solved_by, strict=True)
    ]
    words = "; ".join(f"{bar.name} {bar.text}" for bar in drawn)
    return figure("Examples solved by", bars(drawn, words, line=0.0, form=lambda x: f"{x:g}"))


def _matrix(caption: str, found: Complementarity, values: Sequence[Sequence[float | None]]) -> Html:
    pairs = [x for i, row in enumerate(values) for j, x in enumerate(row) if i != j]
    known = [x for x in pairs if x is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    rows = []
    for i, (model, line) in enumerate(zip(found.models, values, strict=True)):
        cells: list[str | Cell] = [model]
        for j, value in enumerate(line):
            if i == j or value is None:
                cells.append("")
            else:
                strength = (value - low) / (high - low) if high > low else 0.0
                cells.append(Cell(f"{100 * value:.0f}", "cold", strength))
        rows.append(Row(cells))
    return table(caption, ["model", *found.models], rows, classes="heat")


def _more(found: Complementarity, on: str) -> Html:
    inner = [
        _matrix(f"Agreement beyond chance{on}: Cohen's kappa, times 100", found, found.kappa),
    ]
    if found.same_answer is not None:
        inner.append(_matrix(f"The same answer{on}, % of examples", found, found.same_answer))
    return details("Agreement beyond chance, and the same answers", *inner)


def _moved(
    found: Complementarity, on: str, ids: Sequence[str], choice: Choice, prefix: str
) -> Html:
    if not found.moved:
        return Html("")
    number_of = {id: number for number, id in enumerate(ids)}

    def cells(listed: Sequence[str]) -> list[str | Cell]:
        numbers = [number_of[id] for id in listed]
        return [str(len(listed)), Cell(_ids(ids, numbers, choice, prefix), "text ids")]

    rows = [
        Row([one.name, *cells(one.only_it), *cells(one.lost_from_all), *cells(one.lost_from_some)])
        for one in found.moved
    ]
    return table(
        f"What only the fused model solves{on}, and what it loses",
        ["model", *(("count", "which") * 3)],
        rows,
        groups=[
            ("", 1),
            ("right, every seed wrong", 2),
            ("wrong, every seed right", 2),
            ("wrong, some seeds right", 2),
        ],
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

"""Every tested model against each single seed."""

from lorafuse_jax.evaluation.statistics import Exchange
from lorafuse_jax.evaluation.summary import Summary
from lorafuse_jax.report.markup import Cell, Html, Row, table
from lorafuse_jax.report.table import SIGNIFICANT, format_p


def against_members(summary: Summary) -> Html:
    """A line a tested model, three columns a seed."""
    tested = [row for row in summary.rows if row.against_members]
    if not tested:
        return Html("")
    seeds = list(tested[0].against_members)
    rows = [
        Row(
            [
                row.name,
                *(cell for seed in seeds for cell in _cells(row.against_members[seed])),
                format_p(row.every_member_p),
            ],
            row.kind.replace(" ", "-"),
        )
        for row in tested
    ]
    best = summary.best_seed
    named = [f"{seed}, best on validation" if seed == best else seed for seed in seeds]
    return table(
        f"Against each seed on {summary.task}",
        ["model", *(("gain [95 %]", "won : lost", "p") * len(seeds)), "p"],
        rows,
        groups=[("", 1), *((seed, 3) for seed in named), ("better than every one", 1)],
        note="Gain in points, with its interval over examples; won and lost are examples that the "
        "model has right and the seed wrong, and the other way round. p is McNemar's exact test, "
        "corrected (Holm) for all pairs here; the last is that it is better than every seed, "
        "corrected for the models.",
    )


def _cells(found: Exchange) -> tuple[Cell | str, ...]:
    p = found.p_value if found.corrected_p is None else found.corrected_p
    sure = p < SIGNIFICANT
    counts = f"{found.gained} : {found.lost}"
    if found.difference is None:
        return "", counts, format_p(p)
    value, low, high = (100 * x for x in vars(found.difference).values())
    gain = f"{value:+.1f}{'*' if sure else ''} [{low:+.0f}, {high:+.0f}]"
    return Cell(gain, "sure" if sure else ""), counts, format_p(p)

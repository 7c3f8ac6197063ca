"""The loss landscape of a run's seeds as tables and sentences."""

from collections.abc import Sequence

from rich.table import Table

from lorafuse_jax.landscape.measures import Estimate
from lorafuse_jax.landscape.points import SCALES
from lorafuse_jax.landscape.summary import Landscape
from lorafuse_jax.report.text_table import Rows, markdown_rows, numbers_table

CAPTION = (
    "Held-out loss in nats per answer token; ± is the standard error over examples, paired in "
    "differences. Barrier: the most that the loss between two seeds is above the straight line "
    "from one's to the other's; the place was chosen on these examples, as the best scale was. "
    "Spread: standard deviation over subsets, which share seeds."
)


def terminal_tables(found: Landscape) -> list[Table]:
    """For the terminal."""
    return [numbers_table(*parts) for parts in _tables(found)]


def markdown(found: Landscape) -> str:
    """The same tables in Markdown, with what they mean."""
    parts = [f"# Held-out loss among {len(found.seeds)} seeds, {found.examples} examples", CAPTION]
    parts += ["\n".join(f"- {sentence}" for sentence in (*verdict(found), *found.notes))]
    for title, headings, rows in _tables(found):
        parts.append(f"## {title}\n\n{markdown_rows(headings, rows)}")
    return "\n\n".join(parts) + "\n"


def verdict(found: Landscape) -> list[str]:
    """What the numbers say, in sentences."""
    highest = max((line.barrier for line in found.lines), key=lambda one: one.height.value)
    lower = sum(line.middle.value < 0 for line in found.lines)
    best = found.scales[-1].best
    height = _with_error(highest.height) if highest.height.value else "none"
    return [
        f"highest barrier between two seeds: {height}; the middle is lower than the mean of its "
        f"ends on {lower} of {len(found.lines)} lines",
        f"the mean of all {len(found.seeds)} seeds is {_with_error(found.fusion)} below a single "
        f"seed's mean loss; with every one at its best scale (the mean's is {best:g}), "
        f"{_with_error(found.scaled_fusion)}: that part is not scale",
    ]


def _tables(found: Landscape) -> list[tuple[str, Sequence[str], Rows]]:
    lines = [
        (
            f"{line.seeds[0]} - {line.seeds[1]}",
            _with_error(line.barrier.height) if line.barrier.height.value else "0",
            f"{line.barrier.at:g}" if line.barrier.height.value else "",
            _with_error(line.middle),
        )
        for line in found.lines
    ]
    sizes = [
        (
            operator,
            str(one.size),
            str(len(one.losses)),
            f"{sum(one.losses) / len(one.losses):.4f}",
            f"{one.spread:.4f}",
            f"{min(one.losses):.4f}",
            _with_error(one.gain) if one.size > 1 else "",
        )
        for operator, sizes in found.sizes.items()
        for one in sizes
    ]
    scales = [
        (
            one.name,
            *(f"{loss:.4f}" for loss in one.losses),
            f"{one.best:g}",
            _with_error(one.gain) if one.best != 1 else "",
        )
        for one in found.scales
    ]
    return [
        ("lines", ("seeds", "barrier", "at t", "middle - mean of the ends"), lines),
        (
            "by number of seeds",
            ("operator", "seeds", "subsets", "mean loss", "spread", "lowest", "gain"),
            sizes,
        ),
        ("by scale", ("seed", *(f"{s:g}x" for s in SCALES), "best", "gain by scale"), scales),
    ]


def _with_error(found: Estimate) -> str:
    return f"{found.value:.4f} ± {found.error:.4f}"

"""How adapters relate, as tables and as a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.table import Table

from lorafuse_jax.report.figure import COLOURS, LABEL
from lorafuse_jax.report.text_table import markdown_rows

HEADINGS = (
    "module",
    "norm",
    "cosine",
    "shared\nin",
    "shared\nout",
    "same\nsign %",
    "robust\n%",
    "con-\nflicting",
    "quiet\n%",
)
CAPTION = (
    "Means over layers and members. Cosine: of two members' deltas as vectors. Shared: how much "
    "of one member's fan-in (out) space lies in another's, 0 to 1. Same sign: of two members' "
    "entries, 50 % by chance. Robust: entries that members are large in (top 10 %) with one sign; "
    "conflicting: with both; quiet: the others. The last row weighs modules by their entries, and "
    "its norm is of the whole adapter."
)


@dataclass(frozen=True)
class ModuleLine:
    """One row of the table: a module's means, or the whole adapter's."""

    name: str
    norm: float
    cosine: float
    overlap_in: float
    overlap_out: float
    same_sign: float
    robust: float
    conflicting: float
    quiet: float

    def cells(self) -> tuple[str, ...]:
        """As text."""
        shares = (self.same_sign, self.robust, self.conflicting, self.quiet)
        return (
            self.name,
            f"{self.norm:.3g}",
            f"{self.cosine:.3f}",
            f"{self.overlap_in:.3f}",
            f"{self.overlap_out:.3f}",
            *(f"{100 * share:.1f}" for share in shares),
        )


@dataclass(frozen=True)
class Inspection:
    """All that ``lorafuse inspect`` has to tell.

    Attributes:
        members: short names.
        lines: a line a module; the last is the whole adapter.
        cosines: of whole adapters, [S, S].
        norms: of whole adapters, [S].
        by_layer: module -> mean cosine of the pairs in each layer.
        norm_after: operator -> norm of its result over the mean norm of the members.
    """

    members: tuple[str, ...]
    lines: tuple[ModuleLine, ...]
    cosines: np.ndarray
    norms: np.ndarray
    by_layer: Mapping[str, np.ndarray]
    norm_after: Mapping[str, float]


def terminal_tables(found: Inspection) -> list[Table]:
    """For the terminal."""
    tables = []
    for title, headings, rows in _tables(found):
        table = Table(
            box=SIMPLE,
            title=title,
            title_justify="left",
            title_style="bold",
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for number, heading in enumerate(headings):
            table.add_column(
                heading,
                justify="left" if number == 0 else "right",
                overflow="fold",  # long names, so that numbers stay whole
                min_width=max(len(row[number]) for row in rows) if number else None,
            )
        for row in rows:
            name = row[0].removeprefix("layers/")
            table.add_row(name, *row[1:], style="bold" if name == "all" else None)
        tables.append(table)
    return tables


def markdown(found: Inspection) -> str:
    """The same tables in Markdown."""
    parts = []
    for title, headings, rows in _tables(found):
        names = [heading.replace("-\n", "").replace("\n", " ") for heading in headings]
        parts.append(f"## {title}\n\n{markdown_rows(names, rows)}")
    return "\n\n".join([*parts[:1], CAPTION, *parts[1:]]) + "\n"


def figure(found: Inspection) -> Figure:
    """Mean cosine by module and layer, cosines of whole members, and norms after fusion."""
    rows = len(found.by_layer)
    operators = sorted(found.norm_after, key=lambda name: found.norm_after[name])
    upper = 0.8 + 0.28 * max(rows, 4)
    lower = 0.8 + 0.26 * max(len(operators), 1.5 * len(found.members), 8)
    drawn = Figure(figsize=(11, upper + lower), layout="constrained")
    parts = drawn.subfigures(2, 1, height_ratios=(upper, lower))
    top, bottom = np.ravel(np.array(parts, dtype=object))
    layers = max(len(values) for values in found.by_layer.values())
    grid = np.full((rows, layers), np.nan)
    for number, values in enumerate(found.by_layer.values()):
        grid[number, : len(values)] = values
    axes = top.subplots()
    limit = max(0.05, float(np.nanmax(np.abs(grid))))
    shades = axes.imshow(grid, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_yticks(range(rows), [_clipped(_short(module), 40) for module in found.by_layer])
    axes.set_xlabel("layer")
    axes.set_title("mean cosine of two members' deltas", loc="left", fontsize=11, color=LABEL)
    drawn.colorbar(shades, ax=axes, pad=0.01)
    left, right = bottom.subplots(1, 2, width_ratios=(1, 1.5))
    _cosine_panel(left, found)
    _norm_panel(right, found, operators)
    return drawn


def summary_line(found: Inspection) -> str:
    """One sentence that says what matters."""
    whole = found.lines[-1]
    size = len(found.members)
    expected = max(0.0, (1 + (size - 1) * whole.cosine) / size) ** 0.5
    return (
        f"{size} members with a mean cosine of {whole.cosine:.3f}: their plain mean keeps "
        f"about {expected:.0%} of one member's norm."
    )


def _tables(found: Inspection) -> list[tuple[str, Sequence[str], Sequence[tuple[str, ...]]]]:
    cosines = [
        (name, f"{found.norms[i]:.3g}", *(f"{value:.3f}" for value in found.cosines[i]))
        for i, name in enumerate(found.members)
    ]
    tables: list[tuple[str, Sequence[str], Sequence[tuple[str, ...]]]] = [
        ("modules", HEADINGS, [line.cells() for line in found.lines]),
        ("members: norm and cosines", ("member", "norm", *found.members), cosines),
    ]
    if found.norm_after:
        rows: list[tuple[str, ...]] = [(k, f"{v:.2f}") for k, v in found.norm_after.items()]
        tables.append(("norm after fusion, of a member's", ("operator", "norm"), rows))
    return tables


def _cosine_panel(axes, found: Inspection) -> None:
    size = len(found.members)
    values = np.where(np.eye(size, dtype=bool), np.nan, found.cosines)
    limit = max(0.05, float(np.nanmax(np.abs(values))) if size > 1 else 1.0)
    axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for i, j in combinations(range(size), 2):
        shade = "white" if abs(values[i, j]) > 0.6 * limit else LABEL
        for x, y in ((i, j), (j, i)):
            text = f"{values[i, j]:.3f}" if size < 6 else f"{values[i, j]:.2f}"
            axes.text(x, y, text, ha="center", va="center", color=shade, fontsize=9)
    axes.set_xticks(range(size), [_clipped(name, 12) for name in found.members])
    axes.tick_params(axis="x", rotation=0 if size < 4 else 90)
    axes.set_yticks(range(size), [_clipped(name, 24) for name in found.members])
    axes.set_title("cosines of whole members", loc="left", fontsize=11, color=LABEL)


def _norm_panel(axes, found: Inspection, operators: Sequence[str]) -> None:
    if not operators:
        axes.set_axis_off()
        return
    values = [found.norm_after[name] for name in operators]
    axes.barh(range(len(operators)), values, color=COLOURS["fused"], height=0.6)
    axes.axvline(1, color=LABEL, lw=1, ls=":")
    for number, value in enumerate(values):
        axes.text(value, number, f" {value:.2f}", va="center", fontsize=9, color=LABEL)
    axes.set_yticks(range(len(operators)), operators)
    axes.set_xlim(0, 1.15 * max(*values, 1))
    axes.set_title("norm after fusion (dotted: a member's)", loc="left", fontsize=11, color=LABEL)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _clipped(name: str, length: int) -> str:
    """The end of a long name, where names of a kind differ."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _short(module: str) -> str:
    return module.removeprefix("layers/").replace("/*/", "/")

"""Drawings whose letters keep their size on any screen, in the colours of the page.

Everything is placed in per cent of an ``<svg>`` that is as wide as its column; curves lie in an
inner one that is stretched. Colours are the style's variables, so that figures are dark where the
page is.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lorafuse_jax.report.markup import Html, breakable, join, tag


class Bar(NamedTuple):
    """A line of ``bars``: an estimate with its interval.

    Attributes:
        name: what it is of.
        kind: of a row of the table; decides over the colour.
        value: the estimate.
        low: of the interval.
        high: likewise.
        text: the same in words, beside it.
    """

    name: str
    kind: str
    value: float
    low: float
    high: float
    text: str


class Curve(NamedTuple):
    """A curve of ``lines``.

    Attributes:
        label: in the legend; "" leaves it out.
        style: classes: ``s0`` to ``s7`` or ``kind-fused``, ``thin``, ``dashed``.
        points: (x, y).
        dots: whether each point is marked.
    """

    label: str
    style: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two others, about so many."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    # Dividing by the whole inverse where there is one keeps 0.3 from being 0.30000000000000004.
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def bars(
    rows: Sequence[Bar], label: str, *, line: float | None, form: Callable[[float], str]
) -> Html:
    """A forest plot.

    Args:
        rows: from top to bottom, at least one.
        label: what a screen reader says of it.
        line: where a dotted line is drawn through all rows.
        form: how the axis writes a number.
    """
    ends = [float(end) for row in rows for end in (row.low, row.high)]
    ends += [] if line is None else [line]
    place, marks = _scale(min(ends), max(ends))
    lines = [("grid", x) for x in marks] + ([] if line is None else [("mark", line)])
    behind = join(_upright(kind, place(x)) for kind, x in lines)
    parts = []
    for row in rows:
        at = {"y1": "50%", "y2": "50%", "class_": "bar"}
        interval = tag("line", x1=_pc(place(row.low)), x2=_pc(place(row.high)), **at)
        dot = tag("circle", cx=_pc(place(row.value)), cy="50%", r=5, class_="dot")
        parts += [
            tag("span", breakable(row.name), class_="name"),
            tag("span", row.text, class_="value"),
            tag("svg", behind, interval, dot, class_=f"drawn kind-{row.kind.replace(' ', '-')}"),
        ]
    parts.append(_axis([(place(x), form(x)) for x in marks]))
    return tag("div", *parts, class_="bars", role="img", aria_label=label)


def strips(
    rows: Sequence[tuple[str, Sequence[float | None]]],
    label: str,
    *,
    limit: float,
    middle: float = 0.0,
    form: Callable[[float], str],
    axis: str = "layer",
) -> Html:
    """A heat map of one strip a row: warm above the middle, cold below it.

    Args:
        rows: names and values, None where there is nothing.
        label: what a screen reader says of it.
        limit: the distance from the middle that has the full colour.
        middle: what has no colour.
        form: how values are written where the pointer rests.
        axis: what the columns are; they are counted from 0.
    """
    columns = max(len(values) for _, values in rows)
    width, parts = 100 / columns, []
    for name, values in rows:
        cells = []
        for number, value in enumerate(values):
            if value is None:
                continue
            strength = min(1.0, abs(value - middle) / limit) if limit else 0.0
            cells.append(
                tag(
                    "rect",
                    tag("title", f"{name}, {axis} {number}: {form(value)}"),
                    x=_pc(number * width),
                    width=_pc(width),
                    height="100%",
                    class_="cell-warm" if value >= middle else "cell-cold",
                    fill_opacity=f"{strength:.2f}",
                )
            )
        there = [value for value in values if value is not None]
        mean = form(sum(there) / len(there)) if there else ""
        parts += [
            tag("span", breakable(name), class_="name"),
            tag("span", mean, class_="value"),
            tag("svg", *cells, class_="drawn"),
        ]
    shown = sorted({0, *(int(x) for x in ticks(0.0, columns - 1.0, 6) if x == int(x))})
    places = [(100 * (n + 0.5) / columns, f"{axis} 0" if n == 0 else str(n)) for n in shown]
    parts.append(_axis(places))
    return tag("div", *parts, class_="bars strips", role="img", aria_label=label)


def lines(
    curves: Sequence[Curve], label: str, *, x_name: str, y_name: str, log: bool = False
) -> Html:
    """Curves with axes and a legend.

    Args:
        curves: with at least one point between them.
        label: what a screen reader says of it.
        x_name: of the axis, written at its end.
        y_name: likewise.
        log: the y axis is logarithmic, if all y are above 0.
    """
    points = [(float(x), float(y)) for curve in curves for x, y in curve.points]
    log = log and all(y > 0 for _, y in points)
    bend = math.log10 if log else float
    across, x_marks = _scale(min(x for x, _ in points), max(x for x, _ in points), margin=0.0)
    low, high = min(y for _, y in points), max(y for _, y in points)
    up, _ = _scale(bend(low), bend(high))
    y_marks = _log_ticks(low, high) if log else ticks(low, high)
    down = lambda y: 100 - up(bend(y))  # noqa: E731
    drawn, dots = [], []
    for curve in curves:
        path = " ".join(f"{across(x):.2f},{down(y):.2f}" for x, y in curve.points)
        drawn.append(tag("polyline", points=path, class_=curve.style))
        if curve.dots:
            dots += [
                tag("circle", cx=_pc(across(x)), cy=_pc(down(y)), r=4, class_=f"dot {curve.style}")
                for x, y in curve.points
            ]
    grid = [_level(down(y)) for y in y_marks]
    names = [
        tag("text", f"{y:g}", x=-8, y=_pc(down(y)), text_anchor="end", dominant_baseline="central")
        for y in y_marks
    ]
    stretched = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none"}
    inner = tag("svg", *drawn, width="100%", height="100%", **stretched)
    plot = tag("svg", *grid, inner, *dots, *names, class_="chart", aria_hidden="true")
    if all(x == int(x) for x, _ in points):  # what is counted has no halves
        x_marks = [x for x in x_marks if x == int(x)]
    below = _axis([(across(x), f"{x:g}") for x in x_marks])
    legend = tag(
        "ul",
        *(tag("li", tag("span", class_=f"swatch {c.style}"), c.label) for c in curves if c.label),
        class_="legend",
    )
    whole = tag("div", tag("div", plot, below, class_="axes"), role="img", aria_label=label)
    named = tag("p", f"{y_name} by {x_name}", class_="note")
    return join([whole, named, legend])


def _scale(
    low: float, high: float, margin: float = 0.04
) -> tuple[Callable[[float], float], list[float]]:
    """From numbers to per cent, and the round ones to be named."""
    room = margin * (high - low) or (0.0 if high > low else abs(low) * 0.1 or 1.0)
    start, size = low - room, (high - low) + 2 * room
    return lambda x: 100 * (x - start) / size, ticks(start, start + size)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        marks = [
            round(f * 10.0**d, 10) for d in decades for f in factors if low <= f * 10.0**d <= high
        ]
        if len(marks) >= 3:
            return marks
    return ticks(low, high)


def _axis(places: Sequence[tuple[float, str]]) -> Html:
    marks = [tag("text", text, x=_pc(x), y="1rem", text_anchor=_anchor(x)) for x, text in places]
    return tag("svg", *marks, class_="drawn axis", aria_hidden="true")


def _anchor(place: float) -> str:
    """At the ends inwards, so that nothing sticks out of the page."""
    return "start" if place < 4 else "end" if place > 96 else "middle"


def _upright(kind: str, place: float) -> Html:
    return tag("line", x1=_pc(place), x2=_pc(place), y1=0, y2="100%", class_=kind)


def _level(place: float) -> Html:
    return tag("line", x1=0, x2="100%", y1=_pc(place), y2=_pc(place), class_="grid")


def _pc(place: float) -> str:
    return f"{place:.2f}%"

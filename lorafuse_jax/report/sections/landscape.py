"""The loss among the seeds, where ``lorafuse landscape`` has measured it."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorafuse_jax.report.drawing import Curve, lines
from lorafuse_jax.report.markup import Html, Row, figure, join, paragraphs, table, tag

COLOURS = 8
MOST_LINES = 15
SIDE = 100 / 1.1547
"""Height of a triangle of side 100."""


def landscape(found: Mapping[str, Any]) -> Html:
    """Lines between seeds, the triangle, and what more seeds bring.

    Args:
        found: what ``landscape.json`` holds.
    """
    return join([paragraphs(_in_words(found)), _lines(found), _triangle(found), _sizes(found)])


def _in_words(found: Mapping[str, Any]) -> list[str]:
    said = [
        f"Held-out loss of {found['examples']} examples, in nats per answer token; ± is the "
        "standard error over examples, paired in differences.",
        f"The mean of all {len(found['seeds'])} seeds is {_with_error(found['fusion'])} below a "
        f"single seed's mean loss; with each at its own best scale, "
        f"{_with_error(found['scaled_fusion'])}: that part is not scale.",
    ]
    if found["lines"]:
        highest = max(found["lines"], key=lambda line: line["barrier"]["height"]["value"])
        said.append(
            "The highest barrier between two seeds is "
            f"{_with_error(highest['barrier']['height'])}, on the way from "
            f"{highest['seeds'][0]} to {highest['seeds'][1]}."
        )
    return said + [str(note) for note in found["notes"]]


def _lines(found: Mapping[str, Any]) -> Html:
    """Between the seeds themselves; what was measured beyond the ends is left out."""
    shown = found["lines"][:MOST_LINES]
    if not shown:
        return Html("")
    curves = []
    for number, line in enumerate(shown):
        inner = line["losses"][1:-1]
        points = [(k / (len(inner) - 1), loss) for k, loss in enumerate(inner)]
        a, b = line["seeds"]
        curves.append(Curve(f"{a} to {b}", f"s{number % COLOURS}", points, dots=True))
    words = "; ".join(
        f"{c.label}: from {c.points[0][1]:.3f} to {c.points[-1][1]:.3f}, lowest "
        f"{min(y for _, y in c.points):.3f}"
        for c in curves
    )
    drawn = lines(curves, words, x_name="place between two seeds", y_name="loss")
    left = len(found["lines"]) - len(shown)
    return figure(
        "Loss on the straight line between two seeds' updates",
        drawn,
        note=f"The first {len(shown)} of {len(found['lines'])} lines." if left else "",
    )


def _triangle(found: Mapping[str, Any]) -> Html:
    """A dot a mixture of three seeds: the stronger, the lower its loss."""
    if not found["triangle"]:
        return Html("")
    losses = [loss for _, loss in found["triangle"]]
    low, high = min(losses), max(losses)
    corners = [f"seed {seed}" for seed in found["corners"]]
    dots = []
    for weights, loss in found["triangle"]:
        mixed = ", ".join(f"{w:.2f} {c}" for w, c in zip(weights, corners, strict=False) if w)
        strength = (high - loss) / (high - low) if high > low else 0.0
        x, y = _place(weights)
        dots.append(
            tag(
                "circle",
                tag("title", f"{mixed}: {loss:.4f}"),
                cx=f"{x:.2f}",
                cy=f"{y:.2f}",
                r=4.2,
                class_="cell-cold",
                fill_opacity=f"{0.08 + 0.92 * strength:.2f}",
            )
        )
    best, least = min(found["triangle"], key=lambda point: point[1])
    words = ", ".join(f"{w:.2f} of {c}" for w, c in zip(best, corners, strict=False) if w)
    drawn = tag(
        "svg",
        *dots,
        viewBox="-6 -6 112 99",
        class_="triangle",
        role="img",
        aria_label=(f"Losses from {low:.4f} to {high:.4f}; lowest at {words}"),
    )
    named = tag("p", f"Top {corners[0]}, left {corners[1]}, right {corners[2]}.", class_="note")
    return figure(
        "Loss of every mixture of three seeds",
        drawn,
        named,
        note=f"Full colour is the lowest, {least:.4f} at {words}; none is {high:.4f}.",
    )


def _place(weights: Sequence[float | int]) -> tuple[float, float]:
    top, _, right = weights[:3]
    return 50.0 * top + 100.0 * right, SIDE * (1 - top)


def _sizes(found: Mapping[str, Any]) -> Html:
    if not found["sizes"]:
        return Html("")
    curves = [
        Curve(name, f"s{n % COLOURS}", [(one["size"], _mean(one["losses"])) for one in sizes], True)
        for n, (name, sizes) in enumerate(found["sizes"].items())
    ]
    words = "; ".join(
        f"{c.label}: " + ", ".join(f"{x:g} seeds {y:.4f}" for x, y in c.points) for c in curves
    )
    rows = [
        Row(
            [
                f"{name}, {one['size']}",
                str(len(one["losses"])),
                f"{_mean(one['losses']):.4f}",
                f"{one['spread']:.4f}",
                _with_error(one["gain"]) if one["size"] > 1 else "",
            ]
        )
        for name, sizes in found["sizes"].items()
        for one in sizes
    ]
    return join(
        [
            figure(
                "Loss by the number of seeds fused, mean over subsets",
                lines(curves, words, x_name="seeds fused", y_name="loss"),
            ),
            table(
                "Gain by the number of seeds",
                ["operator, seeds", "subsets", "mean loss", "spread", "gain"],
                rows,
                note="Gain is over the mean loss of the single seeds: positive is better. Spread "
                "is over subsets, which share seeds.",
            ),
        ]
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _with_error(found: Mapping[str, float]) -> str:
    return f"{found['value']:.4f} ± {found['error']:.4f}"

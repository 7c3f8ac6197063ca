"""The rows of the table with their intervals, as forest plots."""

from lorafuse_jax.evaluation.statistics import Interval
from lorafuse_jax.evaluation.summary import Row, Summary
from lorafuse_jax.report.drawing import Bar, bars
from lorafuse_jax.report.markup import Html, details, figure, join, table
from lorafuse_jax.report.markup import Row as TableRow

OWN = (
    "Lines are 95 % intervals of each model alone; dotted: the mean seed. Models share their "
    "examples, so that they can differ reliably where these lines overlap: see the gains."
)
PAIRED = (
    "Paired differences, example by example. Lines are 95 % intervals over examples and seeds; "
    "dotted: no difference."
)


def intervals(summary: Summary) -> Html:
    """Accuracy of every row, and the gains in accuracy and log-likelihood of those tested."""
    mean = summary.row("mean seed").accuracy.value
    drawn = [
        figure(
            f"{summary.measure.capitalize()} on {summary.task}, per cent",
            _bars([(row, row.accuracy) for row in summary.rows], 100, 1, signed=False, line=mean),
            note=OWN,
        )
    ]
    accuracy = [(r, r.accuracy_gain.difference) for r in summary.rows if r.accuracy_gain]
    likelihood = [(r, r.likelihood_gain.difference) for r in summary.rows if r.likelihood_gain]
    for title, rows, factor, digits in (
        (f"Gain in {summary.measure} over the mean seed, points", accuracy, 100, 1),
        ("Gain in log-likelihood over the mean seed, nats a token", likelihood, 1, 3),
    ):
        if rows:
            plot = _bars(rows, factor, digits, signed=True, line=0.0)
            drawn.append(figure(title, plot, note=PAIRED))
    return join([*drawn, _other_ways(summary)])


def _other_ways(summary: Summary) -> Html:
    """The same gains with intervals over less, and by the bootstrap; what could have been seen."""
    rows = []
    for row in summary.rows:
        if (gain := row.accuracy_gain) is not None:
            shown = (gain.over_examples, gain.difference, gain.bootstrap)
            least = (gain.detectable, gain.detectable_over_seeds)
            points = ("" if d is None else f"{100 * d:.1f}" for d in least)
            rows.append(TableRow([row.name, *map(_bounds, shown), *points]))
    if not rows:
        return Html("")
    whole = table(
        f"Gain in {summary.measure} on {summary.task}, points, by what is taken to vary",
        ["model", "examples", "and seeds", "the same, bootstrap", "examples", "and seeds"],
        rows,
        groups=[("", 1), ("95 % interval over", 3), ("least true gain found, varying", 2)],
        note="The second is what the table and the verdict go by. The paired bootstrap over "
        "examples and seeds (Owen 2007) is too narrow with few seeds that differ. A gain is found "
        "with probability 0.8, by the sign-flip test and by the interval.",
    )
    return details("The same gains by other intervals", whole)


def _bounds(interval: Interval) -> str:
    return f"{100 * interval.low:+.1f}, {100 * interval.high:+.1f}"


def _bars(
    rows: list[tuple[Row, Interval]], factor: int, digits: int, *, signed: bool, line: float
) -> Html:
    sign = "+" if signed else ""
    texts = [
        f"{factor * one.value:{sign}.{digits}f} "
        f"[{factor * one.low:{sign}.{digits}f}, {factor * one.high:{sign}.{digits}f}]"
        for _, one in rows
    ]
    drawn = [
        Bar(row.name, row.kind, factor * one.value, factor * one.low, factor * one.high, text)
        for (row, one), text in zip(rows, texts, strict=True)
    ]
    words = "; ".join(f"{bar.name} {bar.text}" for bar in drawn)
    return bars(drawn, words, line=factor * line, form=lambda x: f"{x:{sign if x else ''}g}")

"""The result in words, as strong as the numbers and no stronger."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lorafuse_jax.evaluation.statistics import Comparison, Finding
from lorafuse_jax.evaluation.summary import Row, Summary
from lorafuse_jax.report.table import format_p, power

IN_WORDS: Mapping[Finding, str] = {
    "better": "better than the mean seed",
    "better with these seeds": "better than the mean of these very seeds",
    "worse": "worse than the mean seed",
    "worse with these seeds": "worse than the mean of these very seeds",
    "equivalent": "equal to the mean seed but for {margin} points at most",
    "open": "not to be told apart from the mean seed",
}
"""From the strongest."""
OF_THESE = "; of these seeds only: an interval that allows for others includes zero"
OF_ONE = "; of this seed only: one alone says nothing of others"


class _Tested(NamedTuple):
    row: Row
    gain: Comparison
    p_value: float
    finding: Finding


def headline(summary: Summary) -> str:
    """All of accuracy in one sentence."""
    found: dict[Finding, list[str]] = {}
    for one in _accuracy(summary):
        found.setdefault(one.finding, []).append(one.row.name)
    return f"In {summary.measure}, {in_one_sentence(found, summary.margin)}."


def in_one_sentence(found: Mapping[Finding, Sequence[str]], margin: float) -> str:
    """Who is what; without a full stop, and without names where all are the same.

    Args:
        found: names by finding.
        margin: the largest difference that is called none.
    """
    if not found:
        return "there is no fused model to compare with the mean seed"
    if list(found) == ["open"]:
        return "nothing can be told apart from the mean seed"
    parts = []
    for finding, words in IN_WORDS.items():
        if names := found.get(finding):
            verb = "is" if len(names) == 1 else "are"
            parts.append(f"{listed(names)} {verb} {words.format(margin=f'{100 * margin:g}')}")
    return "; ".join(parts)


def verdict(summary: Summary) -> list[str]:
    """Paragraphs: what was found in accuracy, in log-likelihood, and what could have been found.

    What is said of a row is its finding: see ``statistics.conclude``.
    """
    if not (accuracy := _accuracy(summary)):
        return ["lorafuse fuse makes fused models, and lorafuse evaluate lets them answer."]
    paragraphs = [
        _measure(summary.measure.capitalize(), accuracy, 100, 1, "points", summary.margin)
    ]
    likely = [
        _Tested(row, row.likelihood_gain, row.likelihood_p, row.likelihood_finding)
        for row in summary.rows
        if row.likelihood_gain and row.likelihood_p is not None and row.likelihood_finding
    ]
    if likely:
        paragraphs.append(_measure("Log-likelihood", likely, 1, 3, "nats a token", 0.0))
    paragraphs.append(f"{power(summary)} Not told apart does not mean equal.")
    paragraphs += [
        f"{first} and {second} gave the same answer to every example: one result under two names."
        for first, second in summary.twins
    ]
    return paragraphs


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _accuracy(summary: Summary) -> list[_Tested]:
    return [
        _Tested(row, row.accuracy_gain, row.accuracy_p, row.finding)
        for row in summary.rows
        if row.accuracy_gain and row.accuracy_p is not None and row.finding
    ]


def _measure(
    what: str, tested: Sequence[_Tested], factor: int, digits: int, unit: str, margin: float
) -> str:
    sentences = []
    equal, rest = [], []
    for row, gain, p, finding in tested:
        d = gain.difference
        bounds = f"[{factor * d.low:+.{digits}f}, {factor * d.high:+.{digits}f}]"
        numbers = f"{factor * d.value:+.{digits}f} {unit} {bounds}"
        if finding in ("open", "equivalent"):
            some = equal if finding == "equivalent" else rest
            some.append(f"{row.name} ({numbers}, p {format_p(p)})")
            continue
        direction = finding.partition(" ")[0]
        limits = (OF_THESE if gain.seeds > 1 else OF_ONE) if "these" in finding else ""
        sentences.append(
            f"{row.name} is {direction} than the mean seed by {numbers}, p {format_p(p)}{limits}."
        )
    if equal:
        sentences.append(
            f"Equal to the mean seed but for {factor * margin:g} {unit} at most: "
            f"{', '.join(equal)}."
        )
    if rest:
        sentences.append(f"Not told apart from the mean seed: {', '.join(rest)}.")
    return f"{what}: " + " ".join(sentences)
